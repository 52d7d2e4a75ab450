# SPDX-License-Identifier: Apache-2.0
"""Examine models whose ranks share KV heads, print a line about each, and write the document.

When to use it: after an update of vLLM, or a change to a patch. ``python -m
vllm_ascend_bringup.tools.qk_norm [--output docs/qk-norm.md] [ARCHITECTURE ...]``. The exit status
is 1 if the plugin does not answer as transformers does.

What it cannot see: an NPU, and architectures that vLLM cannot run on a CPU.
"""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from vllm_ascend_bringup.tools.engines.engine import set_up
from vllm_ascend_bringup.tools.engines.sweep import (
    log_files,
    sweep_parser,
    versions,
    write_document,
)
from vllm_ascend_bringup.tools.qk_norm.document import document, row

if TYPE_CHECKING:
    from vllm_ascend_bringup.tools.qk_norm.models import TinyModel


def main() -> int:
    """Run the examination; returns the exit status."""
    parser = sweep_parser("qk-norm")
    asked = parser.parse_args()
    set_up()
    from vllm_ascend_bringup.tools.qk_norm.examination import examine
    from vllm_ascend_bringup.tools.qk_norm.models import MODELS

    if unknown := set(asked.architectures) - MODELS.keys():
        parser.error(f"no such model here: {', '.join(sorted(unknown))}")
    results = []
    with log_files(asked.logs) as log:
        for name in asked.architectures or MODELS:
            for kv_heads, ranks in _cases(MODELS[name]):
                file = log(f"{name}-{kv_heads}-{ranks}")
                results.append(examine(MODELS[name], kv_heads, ranks, file, asked.timeout))
                print(row(results[-1]), flush=True)
    if asked.output:
        write_document(asked.output, document(results, versions()))
    return 0 if all(result.good for result in results) else 1


def _cases(model: "TinyModel") -> Iterator[tuple[int, int]]:
    """KV heads and ranks: one rank alone, two that share, and four of which pairs share."""
    yield 1, 1
    yield 1, 2
    if model.more:
        yield 2, 4


if __name__ == "__main__":
    sys.exit(main())
