# SPDX-License-Identifier: Apache-2.0
"""ModelOpt FP8_PB_WO: 128 x 128 blocks, whose scales are usually ``[rows, 1, columns, 1]``.

Source: vLLM, model_executor/layers/quantization/modelopt.py (FP8_PB_WO).
"""

from collections.abc import Mapping

from vllm_ascend_bringup.formats.base import (
    Layout,
    Scheme,
    Shape,
    Stored,
    WeightFormat,
    ceil_div,
    fp8_code_format,
)

_BLOCK = 128


class ModelOptBlockFp8(WeightFormat):
    """Scale ``[..., R, 1, C, 1]`` or ``[..., R, C]``; only dimensions 1 and 3 may be dropped."""

    id = "modelopt_block_fp8"
    title = "ModelOpt block fp8"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """The grid of 128 x 128 blocks, with or without the two inserted dimensions."""
        shape = stored.codes.shape
        *experts, N, K = shape
        R, C = ceil_div(N, _BLOCK), ceil_div(K, _BLOCK)
        layout = Layout(shape, (*experts, R, C), (_BLOCK, _BLOCK), fp8_code_format(stored))
        return {(*experts, R, 1, C, 1): layout, (*experts, R, C): layout}
