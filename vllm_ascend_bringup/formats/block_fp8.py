# SPDX-License-Identifier: Apache-2.0
"""Block fp8 (DeepSeek-V3, Qwen3-FP8, GLM, MiniMax-M2): one scale per block of rows and columns.

``w = code * scale`` even where the scale is called ``weight_scale_inv``. The last block of rows
or columns may be partial. Source: DeepSeek-V3 repository, inference/kernel.py,
weight_dequant_kernel.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.formats.base import Scheme, Shape

if TYPE_CHECKING:
    import torch


class BlockFp8:
    """Scale ``[..., ceil(N / bn), ceil(K / bk)]``; (bn, bk) comes from the config alone."""

    id = "block_fp8"
    title = "block fp8"

    def scale_shapes(self, weight: Shape, scheme: Scheme) -> tuple[Shape, ...]:
        """Exactly the grid of the block size: floor or a transposed grid is refused."""
        rows, columns = self.block(weight, scheme)
        return ((*weight[:-2], -(-weight[-2] // rows), -(-weight[-1] // columns)),)

    def block(self, weight: Shape, scheme: Scheme) -> tuple[int, int]:
        """The block size of the config."""
        if scheme.block is None:
            raise ValueError("a block scheme without block size")
        return scheme.block

    def grid(self, scale: "torch.Tensor", weight: Shape, scheme: Scheme) -> "torch.Tensor":
        """Stored as a grid already."""
        return scale
