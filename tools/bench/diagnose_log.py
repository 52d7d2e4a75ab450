# SPDX-License-Identifier: Apache-2.0
"""A log of a server that ran long and then failed, and how long diagnose takes for it."""

import subprocess
import time
from itertools import cycle
from pathlib import Path

from vllm_ascend_bringup.tools.diagnose.catalog import SIGNATURES
from vllm_ascend_bringup.tools.diagnose.reading import diagnose_files

_RANKS = 8
_STEP = 137  # lines between tracebacks of one request that failed
_METRICS = (
    "(APIServer pid=11) INFO 03-01 {time} [loggers.py:127] Engine {rank:03d}: Avg prompt "
    "throughput: {value}.{rank} tokens/s, Running: {rank} reqs, GPU KV cache usage: {rank}.1%\n"
)
_ACCESS = (
    '(APIServer pid=11) INFO:     10.0.0.{rank}:{value} - "POST /v1/completions HTTP/1.1" 200 OK\n'
)
_TRACEBACK = tuple(
    "(Worker_TP{rank} pid=2{rank}) ERROR 03-01 {time} [multiproc_executor.py:700] " + line
    for line in (
        "Traceback (most recent call last):\n",
        '  File "/opt/vllm/vllm/v1/worker/gpu_model_runner.py", line {value}, in execute_model\n',
        "    hidden_states = self.model(input_ids, positions)\n",
        "ValueError: request {value} was aborted\n",
    )
)
_END = (
    "RuntimeError: NPU out of memory. Tried to allocate 9.00 GiB (NPU 3; 60.00 GiB total capacity; "
    "50.00 GiB already allocated; 50.00 GiB current active; 8.00 GiB free; 51.00 GiB reserved)\n"
)
CAUSE = "oom-kv-or-activation"


def write(log: Path, megabytes: int) -> None:
    """Write about that many megabytes: metrics, requests, interleaved tracebacks, a fault."""
    templates = cycle((_METRICS, _ACCESS))
    written = number = 0
    with log.open("w") as file:
        while written < megabytes * 1_000_000:
            number += 1
            rank, time_ = number % _RANKS, f"{number // 3600 % 24:02d}:{number // 60 % 60:02d}:00"
            lines = _TRACEBACK if number % _STEP == 0 else (next(templates),)
            for line in lines:
                written += file.write(line.format(rank=rank, value=number % 9973, time=time_))
        file.write(_END)


def seconds(log: Path) -> tuple[float, float]:
    """What diagnose takes, and grep -E with the same anchors; both from the page cache."""
    started = time.perf_counter()
    found = diagnose_files([str(log)])
    ours = time.perf_counter() - started
    if found[0].id != CAUSE:
        raise AssertionError(f"diagnosed {found[0].id}, expected {CAUSE}")
    anchors = log.with_name("anchors.txt")
    texts = {pattern.anchor for signature in SIGNATURES.values() for pattern in signature.patterns}
    anchors.write_text("\n".join(_escaped(text) for text in sorted(texts)) + "\n")
    started = time.perf_counter()
    subprocess.run(["grep", "-E", "-i", "-n", "-f", anchors, log], check=True, capture_output=True)
    return ours, time.perf_counter() - started


def _escaped(text: str) -> str:
    return "".join(
        f"\\{character}" if character in r".[]()*+?{}|^$\\" else character for character in text
    )
