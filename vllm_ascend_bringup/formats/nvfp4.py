# SPDX-License-Identifier: Apache-2.0
"""NVFP4 by compressed-tensors: e2m1 codes, an fp8 scale per 16 columns, a global DIVISOR.

``w = code * (scale / global_scale)``; the writer sets ``global_scale = 448 * 6 / max |w|``. Taking
it for a factor is wrong by its square. Sources: compressed-tensors, quantization/utils/helpers.py
(generate_gparam) and quantization/lifecycle/forward_helpers.py.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vllm_ascend_bringup.formats.base import (
    E2M1,
    Layout,
    Pairing,
    Scheme,
    Shape,
    Stored,
    Tensors,
    Unfit,
    WeightFormat,
    byte_values,
    global_scale,
    scale_bytes,
    times_global,
)

if TYPE_CHECKING:
    import torch

NV_GROUP = 16


class NvFp4(WeightFormat):
    """Codes U8 ``[..., N, K / 2]``, scale F8_E4M3 ``[..., N, K / 16]``, global F32 ``[1]``."""

    id = "nvfp4"
    title = "NVFP4"
    code_dtypes = frozenset({"U8"})
    scale_dtypes = frozenset({"F8_E4M3"})
    needs = frozenset({"global_scale"})

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One scale per 16 columns."""
        *rows, half = stored.codes.shape
        if 2 * half % NV_GROUP:
            raise Unfit(f"a number of columns that {NV_GROUP} divides")
        check_global(stored, ((), (1,), *((tuple(e), (*e, 1)) if (e := rows[:-1]) else ())))
        grid = (*rows, 2 * half // NV_GROUP)
        return {grid: Layout((*rows, 2 * half), grid, (1, NV_GROUP), E2M1)}

    def grid(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor":
        """Scales as stored."""
        return scale_bytes(pairing.stored.scale, partners["scale"]).contiguous()

    def scale_table(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor":
        """Scales divided by the global scale, in float32."""
        stored, lead = pairing.stored, pairing.layout.grid[:-2]
        divisor = global_scale(stored.partners["global_scale"], partners["global_scale"])
        return times_global(byte_values(stored.scale.dtype), divisor, lead, divide=True)


def check_global(stored: Stored, accepted: tuple[Shape, ...]) -> None:
    """Raise Unfit unless the global scale is a float of one of the accepted shapes."""
    found = stored.partners["global_scale"]
    if found.dtype not in ("F32", "BF16", "F16") or found.shape not in accepted:
        shapes = " or ".join(str(list(shape)) for shape in accepted)
        raise Unfit(f"a global scale F32 {shapes}")
