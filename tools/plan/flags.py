# SPDX-License-Identifier: Apache-2.0
"""Flags of `vllm serve`, each with its reason: one function a subject, in the order printed."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.plan.base import Graphs, Layout, Setting
from vllm_ascend_bringup.tools.plan.capture import EAGER
from vllm_ascend_bringup.tools.plan.memory import BATCHED_TOKENS
from vllm_ascend_bringup.tools.plan.served import COMPRESSED, Served

_310P = "vllm-ascend docs: tutorials/hardwares/310p.md"
_DOCS = "vllm-ascend docs: "
_LINEAR = "vllm/model_executor/layers/linear.py: QKVParallelLinear"
_CHIPS = "vllm_ascend_bringup/hardware.py: CHIPS"


@dataclass(frozen=True)
class Decided:
    """All that flags follow from."""

    served: Served
    layout: Layout
    graphs: Graphs
    device: str
    max_model_len: int
    concurrency: int
    memory_utilization: float
    xlite: bool


def flags(decided: Decided) -> tuple[Setting, ...]:
    """In the order printed."""
    return tuple(setting for of in _SUBJECTS for setting in of(decided))


def defaults(decided: Decided) -> tuple[Setting, ...]:
    """What the command leaves out, because it comes out like this."""
    block = str(CHIPS[decided.device].block_sizes[0])
    found = [
        Setting("--block-size", block,
                Text("vllm-ascend sets it where chunked prefill is on",
                     "启用分块 prefill 时由 vllm-ascend 设定"),
                "vllm_ascend/utils.py: refresh_block_size"),
        Setting("--enable-chunked-prefill", None,
                Text("vLLM's default; long prompts do not hold up decoding",
                     "vLLM 默认开启；长 prompt 不会阻塞 decode"),
                "vllm/engine/arg_utils.py: _set_default_chunked_prefill_and_prefix_caching_args"),
        Setting("--max-num-batched-tokens", str(BATCHED_TOKENS),
                Text("vLLM's default; more shortens prefill and takes activations",
                     "vLLM 默认值；增大可缩短 prefill，但激活值占用增加"),
                "vllm/engine/arg_utils.py: get_batch_defaults"),
    ]  # fmt: skip
    if not _dtype(decided):
        reason = Text(
            "the checkpoint's own, which the chip serves", "checkpoint 自身的类型，芯片支持"
        )
        found.insert(0, Setting("--dtype", decided.served.model.dtype, reason, _CHIPS))
    return tuple(found)


def _parallel(decided: Decided) -> list[Setting]:
    layout = decided.layout
    whole = Text(
        "heads and matrices are divided by this many ranks", "注意力头与矩阵按该数量切分到各 rank"
    )
    if not decided.served.weights:
        whole = Text("the weights were saved for this many ranks", "权重即按该 rank 数保存")
    found = [Setting("--tensor-parallel-size", str(layout.tp), whole, _LINEAR)]
    if layout.pp > 1:
        reason = Text("layers are divided by nodes, so that tensor parallelism stays within one",
                      "按节点切分层，使张量并行保持在节点内")  # fmt: skip
        source = _DOCS + "user_guide/feature_guide/pipeline_parallel.md"
        found.append(Setting("--pipeline-parallel-size", str(layout.pp), reason, source))
    if layout.dp > 1:
        reason = Text("the other cards serve requests of their own", "其余卡各自处理不同的请求")
        source = _DOCS + "tutorials/models/DeepSeek-V3.1.md"
        found.append(Setting("--data-parallel-size", str(layout.dp), reason, source))
    return found


def _sharing(decided: Decided) -> list[Setting]:
    layout, found = decided.layout, []
    if layout.decode_cp > 1:
        reason = Text("ranks share the KV cache of a request instead of each having a copy",
                      "各 rank 分摊同一请求的 KV cache，而不是各存一份")  # fmt: skip
        source = _DOCS + "user_guide/feature_guide/context_parallel.md"
        found.append(
            Setting("--decode-context-parallel-size", str(layout.decode_cp), reason, source)
        )
    if layout.expert_parallel:
        reason = Text("each rank has whole experts", "每个 rank 持有完整的专家")
        source = _DOCS + "tutorials/models/Qwen3-30B-A3B.md"
        found.append(Setting("--enable-expert-parallel", None, reason, source))
    if layout.ray:
        reason = Text("Ray starts the ranks of all nodes", "由 Ray 拉起所有节点上的 rank")
        source = _DOCS + "tutorials/features/ray.md"
        found.append(Setting("--distributed-executor-backend", "ray", reason, source))
    return found


def _memory(decided: Decided) -> list[Setting]:
    length = Text("what the KV cache has to hold at least once; not left to the model's own",
                  "KV cache 至少要容纳一次的长度；不采用模型自带的默认值")  # fmt: skip
    source = _310P if CHIPS[decided.device].fractal_attention else _DOCS + "faqs.md"
    return [
        Setting("--gpu-memory-utilization", f"{decided.memory_utilization:g}",
                Text("vLLM's share of a card; the rest is for graphs and what it does not count",
                     "vLLM 可用的显存比例；其余留给图以及未计入的部分"), source),
        Setting("--max-num-seqs", str(decided.layout.share(decided.concurrency)),
                Text("requests at a time on a data-parallel rank; also the largest batch captured",
                     "每个数据并行 rank 同时处理的请求数，也是捕获的最大 batch"), source),
        Setting("--max-model-len", str(decided.max_model_len), length, source),
    ]  # fmt: skip


def _dtype(decided: Decided) -> list[Setting]:
    chip, served = CHIPS[decided.device], decided.served
    if len(chip.dtypes) > 1 and served.model.dtype in chip.dtypes:
        return []
    reason = Text("{chip} serves {dtypes}", "{chip} 支持 {dtypes}")
    reason = reason.format(chip=chip.title, dtypes=joined(chip.dtypes))
    found = [Setting("--dtype", chip.dtypes[0], reason, _CHIPS)]
    if served.linear_attention:
        source = _DOCS + "tutorials/models/Qwen3.5-Dense.md"
        found.append(Setting("--mamba-ssm-cache-dtype", chip.dtypes[0], reason, source))
    return found


def _weights(decided: Decided) -> list[Setting]:
    served, found = decided.served, []
    if served.quantization:
        reason = Text(
            "ModelSlim's description lies beside the weights",
            "权重目录中有 ModelSlim 的量化描述文件",
        )
        source = "vllm_ascend/quantization/utils.py: detect_quantization_method"
        found.append(Setting("--quantization", served.quantization, reason, source))
    if served.rank_bytes:
        reason = Text("each rank reads its own files", "每个 rank 只读取自己的文件")
        found.append(Setting("--load-format", "sharded_state", reason, _310P))
    if COMPRESSED in served.modelslim:
        reason = Text("as the guide serves compressed weights; with it, nobody has shown them",
                      "指南中部署压缩权重时关闭；开启时尚无验证")  # fmt: skip
        found.append(Setting("--no-enable-prefix-caching", None, reason, _310P))
    if served.remote_code:
        reason = Text(
            "only the checkpoint's own code knows this model",
            "只有 checkpoint 自带的代码支持该模型",
        )
        found.append(Setting("--trust-remote-code", None, reason,
                             "vllm/model_executor/models/registry.py"))  # fmt: skip
    return found


def _capture(decided: Decided) -> list[Setting]:
    graphs = decided.graphs
    if graphs.mode == EAGER:
        return [Setting("--enforce-eager", None, graphs.reason, graphs.source)]
    content: dict[str, Any] = {"cudagraph_mode": graphs.mode}
    if graphs.explicit:
        content["cudagraph_capture_sizes"] = list(graphs.sizes)
    return [Setting("--compilation-config", json.dumps(content), graphs.reason, graphs.source)]


def _additional(decided: Decided) -> list[Setting]:
    content: dict[str, Any] = {}
    reason, source = Text("", ""), ""
    if CHIPS[decided.device].fractal_attention:
        content["ascend_compilation_config"] = {"fuse_norm_quant": False}
        reason = Text("norm and quantization are not fused on this chip",
                      "该芯片不融合归一化与量化")  # fmt: skip
        source = _310P
    if decided.xlite:
        content["xlite_graph_config"] = {"enabled": True}
        reason = Text("xlite's graphs for decoding; `pip install xlite` first",
                      "decode 使用 xlite 图；需先执行 `pip install xlite`")  # fmt: skip
        source = _DOCS + "user_guide/feature_guide/graph_mode.md"
    if not content:
        return []
    return [Setting("--additional-config", json.dumps(content), reason, source)]


_SUBJECTS: tuple[Callable[[Decided], list[Setting]], ...] = (
    _parallel, _sharing, _memory, _dtype, _weights, _capture, _additional
)  # fmt: skip
