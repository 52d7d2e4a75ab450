# SPDX-License-Identifier: Apache-2.0
"""gpt-oss: MXFP4 experts as ``_blocks [E, out, in / 32, 16]`` and ``_scales [E, out, in / 32]``.

The decoded weight has the name without suffix and is ``[E, in, out]``, as the bf16 model stores it.
gate and up rows alternate, which nobody may undo here. Source: transformers, integrations/mxfp4.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vllm_ascend_bringup.formats.base import (
    E2M1,
    E8M0_DTYPES,
    Layout,
    Pairing,
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
)
from vllm_ascend_bringup.formats.mxfp8 import MX_GROUP

if TYPE_CHECKING:
    import torch

_BLOCK_BYTES = 16


class GptOssMxFp4(WeightFormat):
    """Codes U8 ``[E, out, in / 32, 16]``, scale U8 ``[E, out, in / 32]``."""

    id = "gpt_oss_mxfp4"
    title = "gpt-oss MXFP4"
    code_dtypes = frozenset({"U8"})
    scale_dtypes = E8M0_DTYPES

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One exponent per block of 16 bytes."""
        shape = stored.codes.shape
        if len(shape) != 4 or shape[-1] != _BLOCK_BYTES:
            raise Unfit(f"blocks of {_BLOCK_BYTES} bytes")
        E, out, groups, _ = shape
        grid = (E, out, groups)
        decoded = (E, out, MX_GROUP * groups)
        return {grid: Layout(decoded, grid, (1, MX_GROUP), E2M1, turned=True)}

    def codes(self, pairing: Pairing, codes: "torch.Tensor") -> "torch.Tensor":
        """``[E, out, in / 2]``."""
        return super().codes(pairing, codes).flatten(-2)
