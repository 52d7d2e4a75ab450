# SPDX-License-Identifier: Apache-2.0
"""RMS norm over a whole Q or K projection of which each rank has a part.

Slicing the norm's weight by rank, or gathering K over ranks, is wrong as soon as there are more
ranks than KV heads: ranks then share heads.
"""

from collections.abc import Callable

import torch

from vllm_ascend_bringup.kernels.qk_norm import qk_norm, square_sum


class TensorParallelRMSNorm(torch.nn.Module):
    """``x / sqrt(mean(x**2) + eps) * weight`` with the mean over all heads of the model, each once.

    rows: this rank's of the stored weight ``[width]`` (HeadTopology.query_rows or kv_rows).
    replicas: on how many ranks each head is. all_reduce: the sum of a tensor over all ranks.
    """

    def __init__(
        self,
        rows: slice,
        width: int,
        eps: float,
        *,
        replicas: int = 1,
        all_reduce: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        super().__init__()
        self.rows, self.width, self.eps, self.replicas = rows, width, eps, replicas
        self._all_reduce = all_reduce
        self.weight = torch.nn.Parameter(torch.ones(rows.stop - rows.start))
        # vLLM's loaders ask the parameter how it is filled.
        self.weight.weight_loader = self.load_weight  # type: ignore[attr-defined]

    def load_weight(self, parameter: torch.nn.Parameter, stored: torch.Tensor) -> None:
        """Take this rank's rows of the stored ``[width]``. Raises ValueError for another shape."""
        if stored.shape != (self.width,):
            raise ValueError(f"norm weight {list(stored.shape)}: expected {[self.width]}")
        with torch.no_grad():
            parameter.copy_(stored[self.rows])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., rows]`` to the same."""
        # A head on several ranks is in the sum that often, and all heads are on equally many.
        total = self._all_reduce(square_sum(x))
        return qk_norm(x, total / (self.replicas * self.width), self.weight, self.eps)
