# SPDX-License-Identifier: Apache-2.0
"""Compile the Triton kernels for A2 and A3, print a line for each tile, and write the document.

When to use it: after a change to a kernel or a tile, or another compiler. ``.venv-npu/bin/python -m
vllm_ascend_bringup.tools.kernels_npu [--output docs/kernels-npu.md] [KERNEL ...]``. The exit status
is 1 if a tile that a launcher may choose does not fit, or a larger one would.

What it cannot see: an NPU, and what hivmc does to the code.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.tools.kernels_npu.cases import CASES, Case
from vllm_ascend_bringup.tools.kernels_npu.compiler import FLAGS, compile_to_hivm, lower, vendor
from vllm_ascend_bringup.tools.kernels_npu.document import document
from vllm_ascend_bringup.tools.kernels_npu.results import (
    Outcome,
    Result,
    Tile,
    problems,
    reason,
    shown,
)


def main() -> int:
    """Compile and report; returns the exit status."""
    parser = argparse.ArgumentParser(prog="kernels-npu", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="all by default")
    parser.add_argument("--output", type=Path, help="write the document here")
    asked = parser.parse_args()
    if unknown := set(asked.kernels) - {case.kernel for case in CASES}:
        parser.error(f"no such Triton kernel: {', '.join(sorted(unknown))}")
    results = []
    for case in CASES:
        if not asked.kernels or case.kernel in asked.kernels:
            for result in examine(case):
                results.append(result)
                print(_line(result), flush=True)
    if asked.output:
        asked.output.write_text(document(results, _versions(), FLAGS))
    found = problems(results)
    for problem in found:
        print(f"problem: {problem}", file=sys.stderr)
    return 1 if found else 0


def examine(case: Case) -> Iterator[Result]:
    """Every tile of the launcher, then the next larger ones, for every dtype and target."""
    targets = [chip.triton_target for chip in CHIPS.values() if chip.triton_target]
    for tiles, selectable in ((case.tiles(), True), (case.larger(), False)):
        for tile in tiles:
            for dtype in case.dtypes:
                for target in targets:
                    name = str(dtype).removeprefix("torch.")
                    outcome = _compiled(case, tile, dtype, target)
                    yield Result(case.kernel, tile, name, target, selectable, outcome)


def _compiled(case: Case, tile: Tile, dtype: torch.dtype, target: str) -> Outcome:
    kernel = getattr(case.module, case.function)
    try:
        linalg = lower(kernel, *case.arguments(dtype, tile), target)
    except subprocess.CalledProcessError as error:
        return Outcome(error=f"triton-adapter-opt: {error.stderr.decode().strip()[:300]}")
    with tempfile.TemporaryDirectory() as folder:
        return compile_to_hivm(linalg, target, Path(folder))


def _line(result: Result) -> str:
    outcome = result.outcome
    what = f"{outcome.used:,} of {outcome.available:,}" if outcome.fits else reason(outcome)
    return f"{result.kernel} {shown(result.tile)} {result.dtype} {result.target}: {what}"


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("triton-ascend", "ascendnpu-ir"))
    command = [str(vendor("bin/bishengir-compile")), "--version"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # The first brackets hold the folder it was built in, the commit and the day.
    build = " of ".join(told.partition(")")[0].split()[-2:])
    return f"{packages} (commit {build}) and torch {torch.__version__}"


if __name__ == "__main__":
    sys.exit(main())
