# SPDX-License-Identifier: Apache-2.0
"""MXFP8: fp8 codes with one power-of-two scale per 32 columns of each row.

The scale's bytes are exponents, whatever its name: MiniMax-M3 calls them ``weight_scale_inv``.
Sources: OCP Microscaling Formats (MX) specification 1.0; compressed-tensors, compressors/mxfp8;
vLLM, model_executor/layers/quantization/modelopt.py.
"""

from collections.abc import Mapping

from vllm_ascend_bringup.formats.base import (
    E8M0_DTYPES,
    Layout,
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
    fp8_code_format,
)

MX_GROUP = 32


class MxFp8(WeightFormat):
    """Scale U8 or F8_E8M0 ``[..., N, K / 32]``."""

    id = "mxfp8"
    title = "MXFP8"
    scale_dtypes = E8M0_DTYPES

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One exponent per 32 columns."""
        *rows, K = stored.codes.shape
        if K % MX_GROUP:
            raise Unfit(f"a number of columns that {MX_GROUP} divides")
        grid = (*rows, K // MX_GROUP)
        block = (1, MX_GROUP)
        return {grid: Layout(stored.codes.shape, grid, block, fp8_code_format(stored))}
