# SPDX-License-Identifier: Apache-2.0
"""RMS norm whose mean is over fewer columns than it normalizes: InternViT with added heads."""

from typing import Any

import torch


def norm(original: Any) -> Any:
    """``AscendRMSNorm`` of a chip, the same wherever vllm-ascend's own is right."""

    class AscendRMSNorm(original):  # type: ignore[misc]
        def forward_oot(
            self, x: torch.Tensor, residual: torch.Tensor | None = None
        ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
            # The NPU's operator divides by the number of columns; vLLM's torch code knows better.
            own = self.variance_size_override is None
            run = super().forward_oot if own else self.forward_native
            normalized: torch.Tensor | tuple[torch.Tensor, torch.Tensor] = run(x, residual)
            return normalized

    return AscendRMSNorm
