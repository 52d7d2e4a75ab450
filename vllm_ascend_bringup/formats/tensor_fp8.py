# SPDX-License-Identifier: Apache-2.0
"""Per-tensor fp8 (AutoFP8, ModelOpt FP8, Mistral's Hugging Face exports): one scale per weight.

Several weights may share a scale (n-gram embedding shards). Sources: vLLM,
model_executor/layers/quantization/fp8.py; transformers, integrations/finegrained_fp8.py
(``weight_scale_inv`` as a scalar, still multiplied).
"""

from collections.abc import Mapping

from vllm_ascend_bringup.formats.base import (
    Layout,
    Scheme,
    Shape,
    Stored,
    WeightFormat,
    fp8_code_format,
)


class TensorFp8(WeightFormat):
    """Scale ``[]`` or ``[1]``; for fused experts also one per expert, or two for gate and up."""

    id = "tensor_fp8"
    title = "per-tensor fp8"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """A scalar in any of its spellings."""
        shape, code_format = stored.codes.shape, fp8_code_format(stored)
        *experts, N, K = shape
        layout = Layout(shape, (*experts, 1, 1), (N, K), code_format)
        shapes: tuple[Shape, ...] = ((), (1,), (1, 1))
        if experts:
            shapes += ((*experts, 1, 1), (*experts, 1), tuple(experts))
        layouts = dict.fromkeys(shapes, layout)
        if experts and N % 2 == 0 and stored.name.endswith("gate_up_proj") and not stored.bmm:
            halves = (*experts, 2, 1)
            layouts[halves] = Layout(shape, halves, (N // 2, K), code_format)
        return layouts
