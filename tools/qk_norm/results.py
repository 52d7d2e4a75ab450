# SPDX-License-Identifier: Apache-2.0
"""What was found about one model over some ranks."""

from dataclasses import dataclass

from vllm_ascend_bringup.tools.conformance.results import TOLERANCE

PROMPTS = 20


@dataclass(frozen=True)
class Result:
    """``alone``: prompts to which vLLM without plugins answers as transformers does, in float32.

    ``ours``: the same with the plugin. ``alone_error``, ``error``: one line each; empty if it runs.
    ``difference``: largest of a log-probability in bf16 from transformers' in float32.
    ``fp8_equal``: whether block fp8 answers as the same weights in bf16 do, to the last bit; None
    if that was not tried.
    """

    architecture: str
    kv_heads: int
    ranks: int
    alone: int = 0
    ours: int = 0
    alone_error: str = ""
    error: str = ""
    difference: float | None = None
    fp8_equal: bool | None = None

    @property
    def good(self) -> bool:
        """Whether the plugin leaves nothing to wish for."""
        close = self.difference is not None and self.difference <= TOLERANCE
        return self.ours == PROMPTS and close and self.fp8_equal is not False
