# SPDX-License-Identifier: Apache-2.0
"""Rotary positions of queries and keys with a dimension for heads, on CPU: DeepSeek, LFM2."""

from typing import Any

import torch


def forward_cpu(original: Any) -> Any:
    """``RotaryEmbedding.forward_cpu``, the same for queries ``[tokens, heads * size]``."""

    def forward_cpu(
        self: Any, positions: torch.Tensor, query: torch.Tensor, key: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        given = (query,) if key is None else (query, key)
        flat = all(tensor.dim() == positions.dim() + 1 for tensor in given)
        # vLLM's operator for CPUs does not expect a dimension of heads.
        run = original if flat else type(self).forward_native
        rotated: tuple[torch.Tensor, torch.Tensor | None] = run(self, positions, query, key)
        return rotated

    return forward_cpu
