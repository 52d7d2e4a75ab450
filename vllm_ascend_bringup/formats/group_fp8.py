# SPDX-License-Identifier: Apache-2.0
"""Group fp8: one float scale per group of columns of each row (compressed-tensors "group").

compressed-tensors writes it, vLLM 0.32 has no scheme for it. Source: compressed-tensors,
quantization/lifecycle/initialize.py.
"""

from collections.abc import Mapping

from vllm_ascend_bringup.formats.base import (
    FLOAT_DTYPES,
    Layout,
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
    ceil_div,
    fp8_code_format,
)


class GroupFp8(WeightFormat):
    """Scale ``[..., N, ceil(K / group)]``; the group comes from the config alone."""

    id = "group_fp8"
    title = "group fp8"
    scale_dtypes = FLOAT_DTYPES  # bytes would mean exponents: that is mxfp8

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One value per group of columns."""
        if scheme.group is None:
            raise Unfit("a group size in the settings")
        *rows, K = stored.codes.shape
        grid = (*rows, ceil_div(K, scheme.group))
        block = (1, scheme.group)
        return {grid: Layout(stored.codes.shape, grid, block, fp8_code_format(stored))}
