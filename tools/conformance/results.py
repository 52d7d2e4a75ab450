# SPDX-License-Identifier: Apache-2.0
"""What the sweep finds out about one architecture, and what that means."""

from dataclasses import dataclass

# Ours against transformers': vLLM calculates in bf16, transformers here in float32, from the same
# bf16 weights. The bound is what 8 bits of mantissa allow a sum of a few hundred products to
# drift, relative to log-probabilities of order 10 (the engine tests' bound for bf16).
TOLERANCE = 0.15


@dataclass(frozen=True)
class Result:
    """Findings about one architecture; errors are one line each, empty if there was none.

    ``skipped``: why nothing was tried. ``stock_error``: of stock vLLM on the dense twin.
    ``patched``: stock vLLM fails or answers otherwise there, and its twin is the dense one with
    the plugin, whose patches change both. ``equal``: whether all tokens and log-probabilities of
    the fp8 checkpoint are those of the dense one. ``difference``: the largest difference of a
    first log-probability from transformers', None if there is none to compare.
    """

    architecture: str
    skipped: str = ""
    stock_error: str = ""
    patched: bool = False
    build_error: str = ""
    dense_error: str = ""
    fp8_error: str = ""
    transformers_error: str = ""
    equal: bool = False
    difference: float | None = None
    seconds: float = 0.0

    @property
    def agrees(self) -> bool:
        """Whether transformers says the same as stock vLLM."""
        return self.difference is not None and self.difference <= TOLERANCE
