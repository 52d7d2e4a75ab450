# SPDX-License-Identifier: Apache-2.0
"""Print every figure as one JSON line.

When to use it: after a change to decoding or loading. ``python -m
vllm_ascend_bringup.tools.bench [--gigabytes 4] [FIGURE ...]``. Rivals alternate with us inside
one run, and medians are compared, so a slow minute of the machine hits both.

What it cannot see: an NPU; on one, the copy to the device comes on top.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from vllm_ascend_bringup.tools.bench import (
    attention,
    convert_checkpoint,
    decode_formats,
    diagnose_log,
    load_checkpoint,
    masks,
    serving,
)

_ROUNDS = 15
_LOAD_ROUNDS = 5
_START_ROUNDS = 7
_DECODE = ("decode_block_fp8_vs_expression", "decode_block_fp8_vs_copy")
_LOAD = ("load_fp8_vs_bf16", "load_extra_memory_tensors")
_START = ("plugin_start_ms",)
_FORMATS = ("decode_formats",)
_CONVERT = ("convert_vs_cp", "convert_peak_memory_gib")
# Against a bf16 copy; block fp8 has a stricter target of its own.
_COPY_TARGET = ">= 0.4"
_MASKS, _ATTENTION, _SERVING = ("masks",), ("attention",), ("serving",)
_DIAGNOSE = ("diagnose_vs_grep",)
_LOG_MEGABYTES, _LOG_ROUNDS = 100, 5
_EVERY = (
    *_DECODE, *_FORMATS, *_START, *_MASKS, *_ATTENTION, *_DIAGNOSE, *_CONVERT, *_LOAD, *_SERVING,
)  # fmt: skip
_CONTEXTS = (4096, 16384, 32768, 131072)
# Contexts whose masks upstream's algorithm can make on a small machine.
_RUN = (4096, 16384)


def _emit(figure: str, value: float, unit: str, target: str, against: str) -> None:
    operator, bound = target.split()
    met = value >= float(bound) if operator == ">=" else value <= float(bound)
    line = {"figure": figure, "value": round(value, 3), "unit": unit, "target": target,
            "met": met, "against": against}  # fmt: skip
    print(json.dumps(line), flush=True)


def _seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def bench_decode() -> None:
    """An 8192 x 7168 block-fp8 weight (DeepSeek-V3's largest dense shape) to bf16."""
    import torch

    from vllm_ascend_bringup.decode import Decoder, ScaledTensor, default_threads

    torch.manual_seed(0)
    N, K = 8192, 7168
    weight = torch.randn(N, K).to(torch.float8_e4m3fn)
    scale = (torch.rand(N // 128, K // 128) + 0.5) * 0.01
    out, dense = torch.empty(2, N, K, dtype=torch.bfloat16)
    source = ScaledTensor("w", "shard", weight.view(torch.uint8), scale, (128, 128))
    expression_seconds, copy_seconds, our_seconds = [], [], []

    def expression() -> torch.Tensor:
        return weight.to(torch.bfloat16) * scale.repeat_interleave(128, 0).repeat_interleave(128, 1)

    with Decoder(default_threads(1)) as decoder:

        def ours() -> None:
            decoder.decode(source, (slice(0, N), slice(0, K)), out)

        for warm_up in (ours, expression):
            warm_up()
        for _ in range(_ROUNDS):
            our_seconds.append(_seconds(ours))
            copy_seconds.append(_seconds(lambda: dense.copy_(out)))
            expression_seconds.append(_seconds(expression))
    ours_median = statistics.median(our_seconds)
    _emit(_DECODE[0], statistics.median(expression_seconds) / ours_median, "x throughput",
          ">= 20", "w.to(bf16) * scale.repeat_interleave(128, 0).repeat_interleave(128, 1)",
    )  # fmt: skip
    _emit(_DECODE[1], statistics.median(copy_seconds) / ours_median, "x throughput", ">= 0.6",
          "torch copy_ of the bf16 result")  # fmt: skip


def bench_formats() -> None:
    """Every format, scales and all, against the torch expression and against a bf16 copy."""
    from vllm_ascend_bringup.decode import default_threads

    for found in decode_formats.rates(default_threads(1)):
        _emit(f"decode_{found.format}_vs_copy", found.copy, "x throughput", _COPY_TARGET,
              "torch copy_ of the bf16 result")  # fmt: skip
        _emit(f"decode_{found.format}_vs_expression", found.expression, "x throughput",
              f">= {found.target:g}", "unpack, cast, times scale.repeat_interleave, in bf16",
        )  # fmt: skip


def bench_convert(gigabytes: float, sparse_gibibytes: int) -> None:
    """The convert command on a synthetic checkpoint; its memory on a sparse one."""
    folder = Path(tempfile.mkdtemp(prefix="bringup-bench-"))
    try:
        ratio = convert_checkpoint.ratio_to_cp(folder, gigabytes)
        _emit(_CONVERT[0], ratio, "x throughput", ">= 0.7", "cp -r of the result")
        peak = convert_checkpoint.peak_memory(folder, sparse_gibibytes) / 2**30
        _emit(_CONVERT[1], peak, f"GiB for {sparse_gibibytes} GiB", "<= 1.5",
              "resident memory, file pages included")  # fmt: skip
    finally:
        shutil.rmtree(folder)


def bench_load(gigabytes: float) -> None:
    """A synthetic checkpoint through vLLM's loader: fp8 with the plugin, the same in bf16 without.

    Every load is a fresh process; both checkpoints are in the page cache.
    """
    folder = Path(tempfile.mkdtemp(prefix="bringup-bench-"))
    try:
        largest = load_checkpoint.write(folder / "fp8", folder / "bf16", gigabytes)
        ours, rival, extra = [], [], []
        for round_ in range(_LOAD_ROUNDS + 1):
            fp8 = load_checkpoint.load(folder / "fp8", plugin=True)
            bf16 = load_checkpoint.load(folder / "bf16", plugin=False)
            if round_:  # the first fills the page cache
                ours.append(fp8.seconds)
                rival.append(bf16.seconds)
                extra.append(fp8.extra_bytes / largest)
    finally:
        shutil.rmtree(folder)
    ratios = [one / other for one, other in zip(ours, rival, strict=True)]
    _emit(_LOAD[0], statistics.median(ratios), "x wall time", "<= 1.0",
          "vLLM's loader on the same weights in bf16")  # fmt: skip
    _emit(_LOAD[1], max(extra), "largest tensors (bf16)", "<= 1",
          "parameters alone")  # fmt: skip


# In a process where vLLM has done what every start does, time what the plugin adds.
_START_SCRIPT = """
import os, time
os.environ["VLLM_PLUGINS"] = ""
os.environ["VLLM_LOGGING_LEVEL"] = "ERROR"
from vllm.engine.arg_utils import EngineArgs
import vllm.model_executor.model_loader, vllm.model_executor.layers.quantization
from vllm.platforms import current_platform
current_platform.device_type
from importlib.metadata import entry_points
started = time.perf_counter()
for group in ("vllm.platform_plugins", "vllm.general_plugins"):
    for plugin in entry_points(group=group):
        if plugin.name == "ascend_bringup":
            plugin.load()()
print(1000 * (time.perf_counter() - started))
"""


def bench_start() -> None:
    """What the plugin adds to one vLLM process that it has nothing to do for."""
    times = []
    for _ in range(_START_ROUNDS):
        done = subprocess.run(
            [sys.executable, "-c", _START_SCRIPT], check=True, capture_output=True, text=True
        )
        times.append(float(done.stdout.split()[-1]))
    _emit(_START[0], statistics.median(times), "ms", "<= 50", "the same process without the plugin")


def bench_masks() -> None:
    """A step of 8192 tokens, chunks of 2048, at the end of contexts of four lengths."""
    for context in _CONTEXTS:
        ours = masks.cost(lambda at=context: masks.ours(at))  # type: ignore[misc]
        upstream = masks.upstream_peak(context)
        how = "computed"
        if context in _RUN:
            run = masks.cost(lambda at=context: masks.upstream(at))  # type: ignore[misc]
            how = "counted"
            _emit(f"mask_seconds_{context}", ours.seconds / run.seconds, "x time", "<= 2",
                  "vllm-ascend's algorithm, its first step")  # fmt: skip
            assert abs(run.peak / upstream - 1) < 0.01, (run.peak, upstream)
        _emit(f"mask_peak_mib_{context}", ours.peak / 2**20, "MiB", "<= 64",
              f"{upstream / 2**20:.0f} MiB by vllm-ascend's algorithm, {how}")  # fmt: skip


def bench_attention() -> None:
    """Each reference operator on one batch."""
    for found in attention.ratios():
        _emit(f"attention_{found.name}", found.value, "x time", "<= 1.5",
              f"scaled_dot_product_attention in float32, {found.against}")  # fmt: skip


def bench_serving() -> None:
    """The demo checkpoint on two platforms."""
    for platform, dtype in (("reference-310p", "float16"), ("reference-a2", "bfloat16")):
        _emit(f"serving_{platform}", serving.ratio(platform, dtype), "x tokens/s", ">= 0.7",
              "vLLM's CPU platform, same dtype, 16 requests at a time")  # fmt: skip


def bench_diagnose() -> None:
    """A log of 100 MB from several ranks, with the cause at its end."""
    folder = Path(tempfile.mkdtemp(prefix="bringup-bench-"))
    try:
        log = folder / "server.log"
        diagnose_log.write(log, _LOG_MEGABYTES)
        rounds = [diagnose_log.seconds(log) for _ in range(_LOG_ROUNDS)]
    finally:
        shutil.rmtree(folder)
    ours, grep = (statistics.median(times) for times in zip(*rounds, strict=True))
    _emit(_DIAGNOSE[0], ours / grep, f"x time ({ours:.2f} s for {_LOG_MEGABYTES} MB)", "<= 3",
          "grep -E -i with the same anchors")  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line entry."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("figures", nargs="*", choices=[[], *_EVERY])
    parser.add_argument("--gigabytes", type=float, default=4.0, help="size of the fp8 checkpoint")
    parser.add_argument("--sparse-gibibytes", type=int, default=20, help="for convert's memory")
    chosen = parser.parse_args(arguments)
    wanted = set(chosen.figures or _EVERY)
    if wanted & set(_DECODE):
        bench_decode()
    if wanted & set(_FORMATS):
        bench_formats()
    if wanted & set(_START):
        bench_start()
    if wanted & set(_MASKS):
        bench_masks()
    if wanted & set(_ATTENTION):
        bench_attention()
    if wanted & set(_DIAGNOSE):
        bench_diagnose()
    if wanted & set(_CONVERT):
        bench_convert(chosen.gigabytes, chosen.sparse_gibibytes)
    if wanted & set(_LOAD):
        bench_load(chosen.gigabytes)
    if wanted & set(_SERVING):
        bench_serving()


if __name__ == "__main__":
    main()
