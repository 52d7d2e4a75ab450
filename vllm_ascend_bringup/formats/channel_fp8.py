# SPDX-License-Identifier: Apache-2.0
"""Per-channel fp8: one scale per output row ("PTPC" where activations are scaled per token).

Sources: compressed-tensors, quantization/lifecycle/initialize.py (``[N, 1]``); ModelOpt
FP8_PER_CHANNEL_PER_TOKEN (``[N]``).
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.formats.base import Scheme, Shape

if TYPE_CHECKING:
    import torch


class ChannelFp8:
    """Scale ``[..., N, 1]`` or ``[..., N]``."""

    id = "channel_fp8"
    title = "per-channel fp8"

    def scale_shapes(self, weight: Shape, scheme: Scheme) -> tuple[Shape, ...]:
        """One value per output row, with or without a trailing dimension of one."""
        return ((*weight[:-1], 1), weight[:-1])

    def block(self, weight: Shape, scheme: Scheme) -> tuple[int, int]:
        """One row."""
        return (1, max(weight[-1], 1))

    def grid(self, scale: "torch.Tensor", weight: Shape, scheme: Scheme) -> "torch.Tensor":
        """``[..., N, 1]``."""
        return scale.reshape(*weight[:-1], 1)
