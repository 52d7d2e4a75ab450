# SPDX-License-Identifier: Apache-2.0
"""NVFP4 by ModelOpt (and Quark): e2m1 codes, an fp8 scale per 16 columns, a global FACTOR.

``w = code * (scale * weight_scale_2)``, product in this order. Fused experts have one global scale
each, or one for gate and one for up (``[E, 2]``). Experts named ``..._weight_scale`` are
``[E, in, out]`` and packed along ``in``. Sources: ModelOpt, quantization/qtensor/nvfp4_tensor.py
and export/unified_export_hf.py; vLLM, model_executor/layers/quantization/modelopt.py.
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
from vllm_ascend_bringup.formats.nvfp4 import NV_GROUP, check_global

if TYPE_CHECKING:
    import torch


class ModelOptNvFp4(WeightFormat):
    """Codes U8 ``[..., N, K / 2]``, scale F8_E4M3 ``[..., N, K / 16]``, global F32 ``[]``."""

    id = "modelopt_nvfp4"
    title = "ModelOpt NVFP4"
    code_dtypes = frozenset({"U8"})
    scale_dtypes = frozenset({"F8_E4M3"})
    needs = frozenset({"global_scale"})

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One scale per 16 inputs."""
        *experts, N, half = stored.codes.shape
        if stored.bmm:
            half, N = N, half
        if 2 * half % NV_GROUP:
            raise Unfit(f"a number of columns that {NV_GROUP} divides")
        accepted: tuple[Shape, ...] = ((), (1,))
        if experts:
            accepted += (tuple(experts), (*experts, 1), (*experts, 1, 1))
            if stored.name.endswith("gate_up_proj") and N % 2 == 0:
                accepted += ((*experts, 2),)
        check_global(stored, accepted)
        grid = (*experts, N, 2 * half // NV_GROUP)
        on_disk = (*experts, grid[-1], N) if stored.bmm else grid
        shape = (*experts, N, 2 * half)
        block = (1, NV_GROUP)
        return {on_disk: Layout(shape, grid, block, E2M1, stored.bmm, stored.bmm)}

    def grid(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor":
        """Scales as stored; where gate and up have a global scale each, times that."""
        import torch

        stored, layout = pairing.stored, pairing.layout
        codes = scale_bytes(stored.scale, partners["scale"])
        if layout.codes_turned:
            codes = codes.transpose(-1, -2)
        if not _has_halves(pairing):
            return codes.contiguous()
        experts, R, C = layout.grid
        # As many matrices again of half the rows: one table for gate rows and one for up rows.
        tables = self._table(pairing, partners, (2 * experts,))
        halves = codes.reshape(2 * experts, R // 2 * C).to(torch.int64)
        return tables.gather(1, halves).view(layout.grid)

    def scale_table(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor | None":
        """Scales times the global scale, in float32."""
        if _has_halves(pairing):
            return None
        return self._table(pairing, partners, pairing.layout.grid[:-2])

    def _table(self, pairing: Pairing, partners: Tensors, lead: Shape) -> "torch.Tensor":
        stored = pairing.stored
        factor = global_scale(stored.partners["global_scale"], partners["global_scale"])
        return times_global(byte_values(stored.scale.dtype), factor, lead, divide=False)


def _has_halves(pairing: Pairing) -> bool:
    """Whether fused experts have one global scale for gate and one for up."""
    lead = pairing.layout.grid[:-2]
    return bool(lead) and pairing.stored.partners["global_scale"].shape == (*lead, 2)
