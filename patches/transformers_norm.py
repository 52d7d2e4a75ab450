# SPDX-License-Identifier: Apache-2.0
"""Norms over the whole of K in vLLM's transformers backend, where ranks share KV heads: OLMo 2."""

from typing import Any

import torch


def norm(original: Any) -> Any:
    """A norm that knows of ranks, the same wherever vLLM's own works."""
    from vllm.distributed import tensor_model_parallel_all_gather as all_gather

    class SharedHeadsNorm(original):  # type: ignore[misc]
        def forward(
            self, x: torch.Tensor, residual: torch.Tensor | None = None
        ) -> torch.Tensor | tuple[torch.Tensor, torch.Tensor]:
            here, whole = x.shape[-1], self.weight.shape[0]
            replicas = here * self.tp_size // whole
            # A width of its own on every rank, or the whole one, is no case of shared heads.
            if here == whole or replicas <= 1 or replicas * whole != here * self.tp_size:
                normalized: torch.Tensor | tuple[torch.Tensor, torch.Tensor]
                normalized = super().forward(x, residual)
                return normalized
            ranks = all_gather(x.contiguous()).unflatten(-1, (self.tp_size, here))
            distinct: torch.Tensor = super().forward(ranks[..., ::replicas, :].flatten(-2))
            parts = distinct.chunk(self.tp_size // replicas, -1)
            mine: torch.Tensor = parts[self.tp_rank // replicas]
            return mine

    return SharedHeadsNorm
