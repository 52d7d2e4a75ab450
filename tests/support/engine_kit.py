# SPDX-License-Identifier: Apache-2.0
"""What the engine tests share: twin checkpoints, and one real vLLM engine per process.

Twins hold the same weights twice: as fp8 with scales, and dequantized by testkit's own numpy code
without any quantization settings. Stock vLLM serving the dense twin is what our decoding is
compared with, bit for bit.

As a program (``python engine_kit.py REQUEST.json ANSWER.json``) it runs one engine, in a process of
its own because vLLM leaves state behind and its workers may die.
"""

import atexit
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packed_kit
import torch
from safetensors.torch import load_file
from testkit import dequantize, quantize, write_checkpoint

from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

FP8_METHODS: dict[str, dict[str, Any]] = {
    "block": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
    "channel": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                "input_activations": {
                    "num_bits": 8, "type": "float", "strategy": "token", "dynamic": True,
                },
            }
        },
        "ignore": ["lm_head"],
    },
    "tensor": {"quant_method": "fp8", "activation_scheme": "dynamic"},
    "hybrid": {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
        "routed_experts_quant_method": "mxfp4",
    },
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "int4": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32,
                            "symmetric": True},
            }
        },
        "ignore": ["lm_head"],
    },
    "gpt-oss": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens"]},
}  # fmt: skip
_SCALE_SUFFIX = {"block": "_scale_inv", "channel": "_scale", "tensor": "_scale_inv"}
# Scheme -> which weights it packs, and how; the others are block fp8, or dense for gpt-oss.
_PACKED: dict[str, tuple[str, Callable[[str, torch.Tensor], tuple[Any, torch.Tensor]]]] = {
    "hybrid": (r"\.experts\.", packed_kit.ling_mxfp4),
    "nvfp4": (".", packed_kit.modelopt_nvfp4),
    "int4": (".", packed_kit.packed_int4),
    "gpt-oss": (r"\.experts\.", packed_kit.gpt_oss),
}
_LINEAR = re.compile(r"(proj|kv_a_proj_with_mqa)(\.weight)?$")
_TOP = 5
# Rank, ranks, decoded and all elements, weights, what was not lazy.
Decoded = tuple[int, int, int, int, int, str]
_STOP_SECONDS = 30.0
_ENVIRONMENT = {
    **CPU_ENVIRONMENT,
    # One thread per rank: the same order of summation in every run, and two ranks on two cores
    # that do not wait for each other's spinning threads.
    "OMP_NUM_THREADS": "1",
    # The engine in the process itself, and ranks forked from it: saves two imports of vLLM.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",
}


@dataclass(frozen=True)
class Twins:
    """Two checkpoints of the same weights. ``weights``: name -> shape of what is fp8 in one."""

    fp8: Path
    dense: Path
    weights: Mapping[str, tuple[int, ...]]

    def elements(self, ranks: int, whole: Callable[[str], bool]) -> int:
        """Elements that one of ``ranks`` must decode; ``whole`` names what no rank divides."""
        total = 0
        for name, shape in self.weights.items():
            numel = int(torch.Size(shape).numel())
            total += numel if whole(name) else numel // ranks
        return total


@dataclass(frozen=True)
class Generation:
    """What an engine answered: per prompt the tokens, per token the log-probabilities by id."""

    tokens: list[list[int]]
    logprobs: list[list[dict[str, float]]]
    log: str

    @property
    def decoded(self) -> list[Decoded]:
        """What each rank reported."""
        return decoding_report(self.log)


class EngineError(Exception):
    """The engine's process failed. ``log``: all it printed. ``code``: its exit code."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"exit code {code}: {log[-3000:]}")
        self.code = code
        self.log = log


def decoding_report(log: str) -> list[Decoded]:
    """The loader's one line per rank as numbers, sorted by rank."""
    line = re.compile(
        r"TP rank (\d+) of (\d+): decoded (\d+) of (\d+) elements of (\d+) weights .*"
        r"not lazy: (.*)"
    )
    return sorted((*map(int, found[:5]), found[5].strip()) for found in line.findall(log))


def random_weights(config: Any, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors as transformers stores a model of this config, and its config.json.

    Weights vary by a factor of four from block to block, so that a scale of the wrong block
    cannot pass for the right one.
    """
    import transformers

    hf: Any = transformers
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tensors: dict[str, torch.Tensor] = {}
    for name, stored in sorted(load_file(folder / "model.safetensors").items()):
        if stored.dim() == 2:
            rows, columns = stored.shape
            contrast = 2 ** torch.empty(-(-rows // 128), -(-columns // 128)).uniform_(-1, 1)
            spread = contrast.repeat_interleave(128, 0).repeat_interleave(128, 1)
            tensors[name] = torch.randn(rows, columns) * spread[:rows, :columns] * columns**-0.5
        elif stored.dim() == 3:  # fused experts, [E, in, out] in gpt-oss
            tensors[name] = torch.randn(stored.shape) * stored.shape[1] ** -0.5
        else:
            tensors[name] = stored
    settings = json.loads((folder / "config.json").read_text())
    return tensors, {**settings, "dtype": "bfloat16", "torch_dtype": "bfloat16"}


def fuse_experts(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stack each layer's experts to ``gate_up_proj [E, 2I, K]`` and ``down_proj [E, K, I]``."""
    fused = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    layers = sorted({name.partition(".experts.")[0] for name in tensors.keys() - fused.keys()})
    for layer in layers:
        experts = len({n for n in tensors if re.match(rf"{re.escape(layer)}\.experts\.\d+\.up", n)})
        gates, ups, downs = (
            [tensors[f"{layer}.experts.{e}.{kind}_proj.weight"] for e in range(experts)]
            for kind in ("gate", "up", "down")
        )
        both = [torch.cat(pair) for pair in zip(gates, ups, strict=True)]
        fused[f"{layer}.experts.gate_up_proj"] = torch.stack(both)
        fused[f"{layer}.experts.down_proj"] = torch.stack(downs)
    return fused


def write_twins(
    folder: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], scheme: str
) -> Twins:
    """Write both checkpoints. ``scheme``: a key of FP8_METHODS.

    Two shards; every other scale lies in the shard that its weight is not in.
    """
    fp8: dict[str, torch.Tensor] = {}
    dense: dict[str, torch.Tensor] = {}
    shards: tuple[list[str], list[str]] = ([], [])
    weights: dict[str, tuple[int, ...]] = {}
    for number, (name, tensor) in enumerate(tensors.items()):
        if not _LINEAR.search(name):
            shards[number % 2].append(name)
            fp8[name] = dense[name] = tensor.to(torch.bfloat16)
            continue
        pattern, pack = _PACKED.get(scheme, ("never", packed_kit.ling_mxfp4))
        if re.search(pattern, name):
            stored, dense[name] = pack(name, tensor)
        elif scheme == "gpt-oss":
            fp8[name] = dense[name] = tensor.to(torch.bfloat16)
            shards[number % 2].append(name)
            continue
        else:
            layout = "block" if scheme == "hybrid" else scheme
            scale_name = name + _SCALE_SUFFIX[layout]
            codes, scale, dense[name] = _fp8(tensor, layout)
            stored = {name: codes, scale_name: scale}
        weights[name] = tuple(tensor.shape)
        fp8 |= stored
        for place, stored_name in enumerate(stored):
            # The codes first; then partners, by turns in the other shard.
            shards[(number + bool(place) * len(weights)) % 2].append(stored_name)
    write_checkpoint(
        folder / "fp8", fp8, {**config, "quantization_config": FP8_METHODS[scheme]}, shards
    )
    write_checkpoint(folder / "dense", dense, config)
    return Twins(folder / "fp8", folder / "dense", weights)


def _fp8(weight: torch.Tensor, scheme: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scale as stored, and the same weight dequantized."""
    if weight.dim() == 3:
        experts = [_fp8(expert, scheme) for expert in weight]
        # Stacked as bytes: torch lacks fp8 in some of its functions.
        stacked = torch.stack([e[0].view(torch.uint8) for e in experts])
        return (
            stacked.view(torch.float8_e4m3fn),
            torch.stack([e[1] for e in experts]),
            torch.stack([e[2] for e in experts]),
        )
    rows, columns = weight.shape
    block = {"block": (128, 128), "channel": (1, columns), "tensor": (rows, columns)}[scheme]
    codes, scale = quantize(weight, block)
    dense = dequantize(codes, scale, block, torch.bfloat16)
    stored = scale.reshape(()) if scheme == "tensor" else scale
    return codes.view(torch.float8_e4m3fn), stored, dense


def prompts(vocabulary: int, count: int = 8) -> list[list[int]]:
    """Prompts of 1, 8, 15 ... random token ids."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(3, vocabulary, (1 + 7 * i,), generator=generator).tolist()
        for i in range(count)
    ]


def engine_arguments(model: Path) -> dict[str, Any]:
    """Arguments for a small engine that needs no tokenizer."""
    return {
        "model": str(model), "enforce_eager": True, "max_model_len": 128,
        "skip_tokenizer_init": True, "gpu_memory_utilization": 0.3, "disable_log_stats": True,
    }  # fmt: skip


def run_engine(
    model: Path,
    prompts: Sequence[Sequence[int]],
    *,
    tp: int = 1,
    plugin: bool = True,
    tokens: int = 16,
    environment: Mapping[str, str] | None = None,
    spawned: bool = False,
    **engine: Any,
) -> Generation:
    """Start an engine, continue all prompts greedily in one batch, stop it.

    ``plugin``: whether ours is loaded; without it this is stock vLLM. ``spawned``: let vLLM start
    everything itself, as when it serves; else ranks are forked from a process that has imported
    vLLM. ``engine``: more arguments of ``vllm.LLM``. Raises EngineError if its process fails.
    Nothing of it is left running.
    """
    request = {
        "engine": {**engine_arguments(model), **engine},
        "prompts": [list(prompt) for prompt in prompts],
        "tokens": tokens,
    }  # fmt: skip
    if spawned:
        request["engine"]["tensor_parallel_size"] = tp  # type: ignore[index]
        answer, log = run_script(Path(__file__), request, plugin=plugin, environment=environment)
    else:
        more = {"tp": tp, "plugin": plugin, "environment": dict(environment or {})}
        answer, log = _fork_engine({**request, **more})
    return Generation(answer["tokens"], answer["logprobs"], log)


def _fork_engine(request: Mapping[str, Any]) -> tuple[Any, str]:
    forker = _forker()
    assert forker.stdin
    assert forker.stdout
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        log = Path(scratch, "log")
        forker.stdin.write(json.dumps({**request, "log": str(log)}) + "\n")
        forker.stdin.flush()
        reply = json.loads(forker.stdout.readline())
        text = log.read_text(errors="replace") if log.exists() else ""
    if "error" in reply:
        raise EngineError(1, f"{text}\n{reply['error']}")
    return reply, text


@functools.cache
def _forker() -> "subprocess.Popen[str]":
    """One for the session; it ends when its input does."""
    forker = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("engine_forker.py"))],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip

    @atexit.register
    def end() -> None:
        assert forker.stdin
        forker.stdin.close()
        forker.wait(60)

    return forker


def run_script(
    script: Path,
    request: Mapping[str, Any],
    *,
    plugin: bool = True,
    environment: Mapping[str, str] | None = None,
) -> tuple[Any, str]:
    """``python SCRIPT REQUEST.json ANSWER.json`` in an engine's environment: answer and log."""
    env = {**os.environ, **_ENVIRONMENT, **(environment or {})}
    if not plugin:
        env["VLLM_PLUGINS"] = ""
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        asked, answered, logged = (Path(scratch) / n for n in ("ask.json", "answer.json", "log"))
        asked.write_text(json.dumps(request))
        with logged.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), str(asked), str(answered)], stdout=log,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=scratch,
                start_new_session=True,
            )  # fmt: skip
        try:
            code = process.wait(300)
            wait_until_left(Path(scratch))
        finally:
            for left in processes_in(Path(scratch)):
                os.kill(left, signal.SIGKILL)
            process.wait()
        text = logged.read_text(errors="replace")
        if code != 0:
            raise EngineError(code, text)
        return json.loads(answered.read_text()), text


def processes_in(folder: Path) -> list[int]:
    """Processes, other than this one, whose working folder is ``folder``.

    Descendants inherit it, whatever they call themselves and whoever adopts them.
    """
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            inside = link.readlink() == folder.resolve()
        except OSError:  # gone in between, or another user's
            continue
        if inside and link.parent.name != str(os.getpid()):
            found.append(int(link.parent.name))
    return found


def wait_until_left(folder: Path) -> None:
    """Wait until no process works in ``folder``; raises AssertionError if some stay."""
    deadline = time.monotonic() + _STOP_SECONDS
    while left := processes_in(folder):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)


def allow_amx() -> None:
    """What our plugin does in every process (see plugin.py); stock vLLM needs it too, to live."""
    torch.cpu._init_amx()


def generate(
    engine: Mapping[str, Any], prompts: Sequence[Sequence[int]], tokens: int
) -> dict[str, Any]:
    """Start an engine in this process and continue all prompts greedily in one batch."""
    from vllm import LLM, SamplingParams

    sampling = SamplingParams(
        temperature=0, max_tokens=tokens, logprobs=_TOP, detokenize=False, ignore_eos=True
    )
    given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    outputs = [request.outputs[0] for request in LLM(**engine).generate(given, sampling)]
    return {
        "tokens": [list(output.token_ids) for output in outputs],
        "logprobs": [
            [{str(token): p.logprob for token, p in step.items()} for step in output.logprobs]
            for output in outputs
        ],
    }


def main(ask: str, answer: str) -> None:
    """Run one engine as REQUEST.json says and write ANSWER.json."""
    request = json.loads(Path(ask).read_text())
    result = generate(request["engine"], request["prompts"], request["tokens"])
    Path(answer).write_text(json.dumps(result))


if __name__ == "__main__":
    allow_amx()
    main(*sys.argv[1:])
