# SPDX-License-Identifier: Apache-2.0
"""Block fp8 (DeepSeek-V3, Qwen3-FP8, GLM, MiniMax-M2): one scale per block of rows and columns.

``w = code * scale`` even where the scale is called ``weight_scale_inv``. The last block of rows
or columns may be partial. Scales are values or, by their dtype alone, exponents (DeepSeek-V4).
Source: DeepSeek-V3 repository, inference/kernel.py, weight_dequant_kernel.
"""

from collections.abc import Mapping

from vllm_ascend_bringup.formats.base import (
    Layout,
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
    ceil_div,
    fp8_code_format,
)


class BlockFp8(WeightFormat):
    """Scale ``[..., ceil(N / bn), ceil(K / bk)]``; (bn, bk) comes from the config alone."""

    id = "block_fp8"
    title = "block fp8"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """Exactly the grid of the block size: floor or a transposed grid is refused."""
        if scheme.block is None:
            raise Unfit("a block size in the settings")
        shape, code_format = stored.codes.shape, fp8_code_format(stored)
        *experts, N, K = shape
        rows, columns = scheme.block
        grid = (*experts, ceil_div(N, rows), ceil_div(K, columns))
        layouts = {grid: Layout(shape, grid, scheme.block, code_format)}
        if (
            experts and grid[-2] == 1 and N % 2 == 0 and not stored.bmm
            and stored.name.endswith("gate_up_proj")
        ):  # fmt: skip
            # transformers' FP8Experts keeps one row of scales for gate and one for up even where
            # both fit one block (integrations/finegrained_fp8.py, min_sf_out).
            halves = (*experts, 2, grid[-1])
            layouts[halves] = Layout(shape, halves, (N // 2, columns), code_format)
        return layouts
