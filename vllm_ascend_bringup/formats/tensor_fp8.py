# SPDX-License-Identifier: Apache-2.0
"""Per-tensor fp8 (AutoFP8, ModelOpt FP8, Mistral's Hugging Face exports): one scale per weight.

Sources: vLLM, model_executor/layers/quantization/fp8.py; transformers,
integrations/finegrained_fp8.py (``weight_scale_inv`` as a scalar, still multiplied).
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.formats.base import Scheme, Shape

if TYPE_CHECKING:
    import torch


class TensorFp8:
    """Scale ``[]`` or ``[1]``; for fused experts ``[E, N, K]`` also one per expert."""

    id = "tensor_fp8"
    title = "per-tensor fp8"

    def scale_shapes(self, weight: Shape, scheme: Scheme) -> tuple[Shape, ...]:
        """A scalar in any of its spellings."""
        experts = weight[:-2]
        per_expert = ((*experts, 1, 1), (*experts, 1), experts) if experts else ()
        return ((), (1,), (1, 1), *per_expert)

    def block(self, weight: Shape, scheme: Scheme) -> tuple[int, int]:
        """The whole weight."""
        return (max(weight[-2], 1), max(weight[-1], 1))

    def grid(self, scale: "torch.Tensor", weight: Shape, scheme: Scheme) -> "torch.Tensor":
        """``[..., 1, 1]``, the one scale of fused experts repeated for each."""
        if scale.numel() == 1:
            return scale.reshape(1, 1).expand(*weight[:-2], 1, 1)
        return scale.reshape(*weight[:-2], 1, 1)
