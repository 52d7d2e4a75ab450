# SPDX-License-Identifier: Apache-2.0
"""MXFP4: packed e2m1 codes with one power-of-two scale per 32 columns of each row.

compressed-tensors (``weight_packed``), DeepSeek-V4 experts (I8 ``weight`` with ``scale``), Ling
experts (``weight_scale_inv``), Quark and the generic experts vLLM accepts, whose scales may be
float powers of two. Sources: OCP Microscaling Formats (MX) specification 1.0; compressed-tensors,
compressors/mxfp4; vLLM, model_executor/layers/quantization/mxfp4.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import (
    E2M1,
    E8M0_DTYPES,
    PACKED_DTYPES,
    Layout,
    Pairing,
    Scheme,
    Shape,
    Stored,
    Tensors,
    Unfit,
    WeightFormat,
)
from vllm_ascend_bringup.formats.mxfp8 import MX_GROUP

if TYPE_CHECKING:
    import torch


class MxFp4(WeightFormat):
    """Codes ``[..., N, K / 2]``, scale ``[..., N, K / 32]``."""

    id = "mxfp4"
    title = "MXFP4"
    code_dtypes = PACKED_DTYPES

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One power of two per 32 columns."""
        *rows, half = stored.codes.shape
        if len(rows) > 2:
            raise Unfit("codes of two or three dimensions")
        if 2 * half % MX_GROUP:
            raise Unfit(f"a number of columns that {MX_GROUP} divides")
        grid = (*rows, 2 * half // MX_GROUP)
        return {grid: Layout((*rows, 2 * half), grid, (1, MX_GROUP), E2M1)}

    def grid(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor":
        """The scale; a float one must hold powers of two."""
        import torch

        values = super().grid(pairing, partners)
        scale = pairing.stored.scale
        if scale.dtype in E8M0_DTYPES:
            return values
        odd = (torch.frexp(values).mantissa != 0.5) & (values != 0)
        if bool(odd.any()):
            raise FormatError(
                f"scale {scale.name} in {scale.shard} holds {float(values[odd][0]):g}",
                "powers of two, which MXFP4 scales are",
                "check the quantization settings: this may be another fp4 format",
            )
        return values
