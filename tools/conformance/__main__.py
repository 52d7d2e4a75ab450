# SPDX-License-Identifier: Apache-2.0
"""Examine architectures, print a line about each, and write the document.

When to use it: after an update of vLLM or transformers, or a change to loading. ``python -m
vllm_ascend_bringup.tools.conformance [--output docs/conformance.md] [ARCHITECTURE ...]``. The exit
status is 1 if a failure is not explained in verdicts.py.

What it cannot see: an NPU, more than one rank, and architectures that transformers lacks.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_ascend_bringup.tools.conformance.document import counts, document, row
from vllm_ascend_bringup.tools.conformance.results import Result
from vllm_ascend_bringup.tools.conformance.verdicts import SKIPPED, judge
from vllm_ascend_bringup.tools.engines.engine import set_up
from vllm_ascend_bringup.tools.engines.sweep import (
    log_files,
    sweep_parser,
    versions,
    write_document,
)

if TYPE_CHECKING:
    from vllm_ascend_bringup.tools.conformance.architectures import Architecture


def main() -> int:
    """Run the sweep; returns the exit status."""
    parser = sweep_parser("conformance")
    asked = parser.parse_args()
    set_up()
    from vllm_ascend_bringup.tools.conformance.architectures import shared_architectures

    shared = shared_architectures()
    unknown = set(asked.architectures) - shared.keys()
    if unknown:
        parser.error(f"not both in vLLM and transformers: {', '.join(sorted(unknown))}")
    chosen = [shared[name] for name in asked.architectures or shared]
    with log_files(asked.logs) as log:
        results = _examine(chosen, log, asked.timeout)
    print(counts(results))
    if asked.output:
        places = {architecture.name: architecture.place for architecture in chosen}
        write_document(asked.output, document(results, places, versions()))
    return 0 if all(judge(result).explained for result in results) else 1


def _examine(
    chosen: Sequence["Architecture"], log: Callable[[str], Path], timeout: float
) -> list[Result]:
    from vllm_ascend_bringup.tools.conformance.examination import examine

    results = []
    for architecture in chosen:
        name = architecture.name
        if name in SKIPPED:
            results.append(Result(name, skipped=SKIPPED[name]))
        else:
            results.append(examine(architecture, log(name), timeout))
        print(row(results[-1], architecture.place), flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
