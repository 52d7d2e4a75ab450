# SPDX-License-Identifier: Apache-2.0
"""Validations as ``bringup validate`` might end, for tests of the report. All of it is invented."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Excerpt, Finding
from vllm_ascend_bringup.tools.validate.results import (
    Capacity,
    Check,
    Event,
    Feature,
    Start,
    Trial,
    Validation,
)  # fmt: skip

GIB = 2**30
# Text that would be markup if it were not escaped, in HTML, in a table and in a code span.
HOSTILE = 'reply: <script>alert("1 & 2")</script> | a `tick` | **bold** &lt;'
COMMAND = ("vllm", "serve", "/models/测试-模型-8B", "--tensor-parallel-size", "2",
           "--max-model-len", "16384", "--max-num-seqs", "32", "--port", "8000")  # fmt: skip
_EVENTS = (
    ("process", Text("process started", "进程已启动")),
    ("engine", Text("engine configured", "引擎配置完成")),
    ("weights", Text("weights loaded", "权重加载完成")),
    ("cache", Text("KV cache allocated", "KV cache 分配完成")),
    ("graphs", Text("graphs captured", "图捕获完成")),
    ("ready", Text("server ready", "服务就绪")),
)
_TITLES = {
    "ready": Text("the server lists its model", "服务列出模型"),
    "text": Text("one text request", "单个文本请求"),
    "image": Text("one text and image request", "单个图文请求"),
    "endpoints": Text("completions agree with chat completions", "补全接口与对话接口一致"),
    "burst": Text("a burst of requests at once", "并发请求"),
    "long": Text("a long context", "长上下文请求"),
    "logprobs": Text("the same logprobs twice", "两次 logprobs 一致"),
}
_PARTS = (
    ("weights", Text("weights", "权重"), 15.27, Text("stored bytes / TP", "存储字节数 / TP")),
    ("kv", Text("KV cache", "KV cache"), 28.5,
     Text("2 x layers x KV heads / TP x head size x tokens x 2 bytes",
          "2 x 层数 x KV 头数 / TP x 头维度 x token 数 x 2 字节")),
    ("activations", Text("activations", "激活"), 4.2,
     Text("measured for 2048 tokens a step", "按每步 2048 个 token 估算")),
    ("masks", Text("attention masks", "注意力掩码"), 0.5,
     Text("length x length x 2 bytes", "长度 x 长度 x 2 字节")),
    ("graphs", Text("graphs", "图捕获开销"), 1.4,
     Text("capture sizes x layers", "捕获档位数 x 层数")),
)  # fmt: skip


def memory(usable: float = 57.6, card: float = 64.0) -> dict[str, Any]:
    """A plan's ``memory``; sizes in GiB."""
    used = sum(part[2] for part in _PARTS)
    return {
        "card_bytes": int(card * GIB), "usable_bytes": int(usable * GIB),
        "free_bytes": int((card - used) * GIB),
        "parts": [
            {"id": id_, "title": {"en": title.en, "zh": title.zh}, "bytes": int(size * GIB),
             "formula": {"en": formula.en, "zh": formula.zh}}
            for id_, title, size, formula in _PARTS
        ],
    }  # fmt: skip


def timeline(*seconds: float) -> tuple[Event, ...]:
    """The first events, at these seconds."""
    return tuple(
        Event(name, title, at) for (name, title), at in zip(_EVENTS, seconds, strict=False)
    )


def checks(failed: str | None = None, label: str | None = None, *, image: bool = False) -> Any:
    """All checks passed, up to ``failed``, which ``label`` explains; those after it not run."""
    found, after = [], False
    for id_, title in _TITLES.items():
        state: Any = "not-run" if after else "passed"
        evidence: tuple[Text | str, ...] = (
            Text("one request", "一个请求"),
            f"{id_}: HTTP 200, 16 tokens",
            f"answered {_ANSWER!r}",
        )
        if id_ == "image" and not image:
            state, evidence = "not-applicable", ()
        if id_ == failed:
            state, after, evidence = "failed", True, (HOSTILE, "engine process ended with code 1")
        found.append(Check(id_, title, state, () if state == "not-run" else evidence,
                           label if id_ == failed else None, 0.0 if after else 1.25))  # fmt: skip
    return tuple(found)


_ANSWER = "The capital of Japan is Tokyo."


def start(stage: str, seconds: tuple[float, ...], **changes: Any) -> Start:
    """A start that passed, unless ``changes`` say otherwise."""
    values: dict[str, Any] = {
        "command": COMMAND, "environment": {"OMP_NUM_THREADS": "1"}, "changed": (),
        "state": "passed", "label": None, "ready_after": seconds[-1] if len(seconds) == 6 else None,
        "seconds": seconds[-1] + 20, "timeline": timeline(*seconds), "checks": checks(),
        "diagnoses": (), "log": f"logs/{stage}.log",
    }  # fmt: skip
    return Start(stage, **{**values, **changes})


def finding(id_: str = "false-ready") -> Finding:
    """A cause with quoted lines."""
    return Finding(
        id_, 0.93,
        Text("the engine dies on the first request", "引擎在第一个请求上退出"),
        (Excerpt(412, HOSTILE), Excerpt(418, "EngineDeadError: core is gone" + "!" * 300)),
        (Text("read the worker's first error above", "查看上方 worker 的第一条错误"),
         Text("start once with --enforce-eager", "用 --enforce-eager 启动一次")),
    )  # fmt: skip


def _features() -> tuple[Feature, ...]:
    return (
        Feature("graph", Text("graph mode", "图模式"), "verified", ("captured 6 sizes in 12.1 s",)),
        Feature("ep", Text("expert parallelism", "专家并行"), "not-applicable"),
        Feature("flashcomm1", Text("flashcomm1", "flashcomm1"), "unsupported", ("dense model",)),
        Feature("mtp", Text("multi-token prediction", "多 token 预测"), "checkpoint-missing",
                ("config.json has 1 MTP layer, the checkpoint no tensor of it",)),
        Feature("multimodal", Text("multimodal input", "多模态输入"), "not-tried"),
    )  # fmt: skip


CAPACITY = Capacity(
    32768, 20480, 48, 16384, 32,
    tuple(
        Trial(length, sequences, length * sequences <= 2**19, None if length * sequences <= 2**19
              else "max-model-len", 61.5)
        for length, sequences in ((4096, 8), (8192, 8), (16384, 8), (32768, 8), (16384, 32),
                                  (32768, 32), (8192, 64), (16384, 64))
    ),
)  # fmt: skip
_BOTH = {"en": "a text of the plan", "zh": "规划的文字"}
_MODEL: Mapping[str, Any] = {
    "path": "/models/测试-模型-8B",
    "model": {"architecture": "Qwen3ForCausalLM", "model_type": "qwen3", "dtype": "bfloat16",
              "layers": 36, "hidden_size": 4096, "max_length": 32768, "query_heads": 32,
              "kv_heads": 8, "head_size": 128, "attention": "GQA", "experts": 0},
    "quantization": "fp8", "formats": {"block fp8": 252}, "tensors": 651, "shards": 5,
    "stored_bytes": int(8.9 * GIB), "decoded_bytes": int(15.3 * GIB), "recipe": None,
    "problems": [{"severity": "note", "text": "each of 8 KV heads is on 1 rank"}],
}  # fmt: skip

# The shape of bringup plan --json.
_PLAN: Mapping[str, Any] = {
    "schema_version": 1, "command": "plan", "device": "a2", "vllm_ascend": "0.26.0",
    "weights": _BOTH, "layout": {"tp": 2, "pp": 1, "expert_parallel": False},
    "max_model_len": 16384, "concurrency": 32, "fits": True, "memory": memory(),
    "flags": [{"name": "--max-model-len", "value": "16384", "reason": _BOTH, "source": "a guide"},
              {"name": "--trust-remote-code", "value": None, "reason": _BOTH, "source": "x"}],
    "environment": [{"name": "OMP_NUM_THREADS", "value": "1", "reason": _BOTH, "source": "x"}],
    "commands": ["vllm serve /m --additional-config '{\"a\": \"b c\"}' --node-ip \"$IP\" --eager"],
    "recipes": [{"id": "container", "title": _BOTH, "lines": ["docker run \\\\", "  image"],
                 "note": _BOTH}],
    "advice": [_BOTH], "notes": [_BOTH],
}  # fmt: skip

PASSED = Validation(
    verdict="pass", label=None,
    summary=Text("Real weights passed every check.", "真实权重通过了全部检查。"),
    started_at="2026-01-02 03:04:05 UTC", seconds=754.2, project_version="0.0-test",
    environment={"vllm": "0.32.0", "torch": "2.13.0", "device": "test data, no device",
                 "python": "3.11"},
    model=_MODEL,
    plan=_PLAN,
    stages=(start("dummy", (0.4, 3.1, 5.2, 9.8, 22.4, 24.0)),
            start("real", (0.4, 3.2, 64.9, 70.3, 83.6, 85.1))),
    ladder=(), features=_features(), capacity=CAPACITY,
    limits=(Text("Accuracy on a benchmark was not measured.", "没有测量基准测试的精度。"),
            Text("One machine: nothing is known of several nodes.", "未验证多机。")),
)  # fmt: skip

_DIES: dict[str, Any] = {
    "state": "failed", "label": "false-ready", "checks": checks("text", "false-ready"),
    "diagnoses": (finding(),),
}  # fmt: skip
# Ready, dead on its first request; nothing planned, no capacity.
FALSE_READY = replace(
    PASSED, verdict="fail", label="false-ready", plan=None, capacity=None, features=(), limits=(),
    summary=Text(
        "The server was ready after 85 s and died on the first request.",
        "服务在 85 秒后就绪，却在第一个请求上退出。",
    ),
    stages=(start("dummy", (0.4, 3.1, 5.2, 9.8, 22.4, 24.0)),
            start("real", (0.4, 3.2, 64.9, 70.3, 83.6, 85.1), **_DIES)),
)  # fmt: skip

_LONG = (
    "--additional-config",
    '{"ascend_compilation_config": {"fuse_norm_quant": false}, "note": "' + "x" * 300 + '"}',
)
# Fails until graphs are off; a plan that does not fit, and a command of more than 300 letters.
LADDER = replace(
    FALSE_READY,
    environment={**PASSED.environment, "LD_LIBRARY_PATH": "/usr/" + "long" * 75},
    plan={**_PLAN, "memory": memory(usable=40.0, card=44.0), "fits": False},
    capacity=replace(CAPACITY, estimated_len=None, estimated_seqs=None, practical_seqs=None),
    stages=(start("dummy", (0.4, 3.1, 5.2, 9.8), **_DIES | {"command": COMMAND + _LONG}),),
    ladder=(
        start("same", (0.4, 3.0, 5.1, 9.9, 22.0, 23.8), **_DIES),
        start("eager", (0.4, 3.0, 5.1, 9.9, 10.2, 11.0), changed=("--enforce-eager",)),
        Start("dynamo-off", (), {}, (), "not-run", None, None, 0.0, (), (), (), "",
              Text("it does not change what is computed", "不改变计算结果")),
    ),
)  # fmt: skip

# Nothing but a verdict: the command could not even be run.
BARE = replace(
    FALSE_READY, label="arch-unrecognized", environment={}, model={}, stages=(),
    summary=Text("Nothing could be started.", "什么都没能启动。"),
)  # fmt: skip
ALL = {"passed": PASSED, "false-ready": FALSE_READY, "ladder": LADDER, "bare": BARE}


def with_logs(validation: Validation, log: Path) -> Validation:
    """The same, each server's log being this file."""
    stages = tuple(replace(start, log=str(log)) for start in validation.stages)
    return replace(validation, stages=stages)
