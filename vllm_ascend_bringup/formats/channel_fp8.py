# SPDX-License-Identifier: Apache-2.0
"""Per-channel fp8: one scale per output row ("PTPC" where activations are scaled per token).

Sources: compressed-tensors, quantization/lifecycle/initialize.py (``[N, 1]``); ModelOpt
FP8_PER_CHANNEL_PER_TOKEN (``[N]``); fbgemm_fp8 linear layers (``[N, 1]``).
"""

from collections.abc import Mapping

from vllm_ascend_bringup.formats.base import (
    Layout,
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
    fp8_code_format,
)


class ChannelFp8(WeightFormat):
    """Scale ``[..., N, 1]`` or ``[..., N]``."""

    id = "channel_fp8"
    title = "per-channel fp8"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One value per output row, with or without a trailing dimension of one."""
        if stored.bmm:
            raise Unfit("weights [E, out, in], which this name does not mean")
        shape = stored.codes.shape
        grid = (*shape[:-1], 1)
        layout = Layout(shape, grid, (1, shape[-1]), fp8_code_format(stored))
        return {grid: layout, shape[:-1]: layout}
