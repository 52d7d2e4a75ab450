# SPDX-License-Identifier: Apache-2.0
"""Fused experts ``[E, in, out]`` with one fp8 scale per output, which is a column there.

Llama-4 by fbgemm_fp8 stores ``gate_up_proj_scale [E, 1, 2I]`` but ``down_proj_scale [E, H, 1]``,
which must be turned: with equal dimensions the wrong way round is silent. ModelOpt stores
``[E, out]``. Sources: transformers, integrations/fbgemm_fp8.py; ModelOpt, torch/export,
unified_export_hf.py.
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


class ColumnFp8(WeightFormat):
    """Scale ``[E, 1, out]``, ``[E, out, 1]`` or ``[E, out]`` of a weight ``[E, in, out]``."""

    id = "column_fp8"
    title = "per-channel fp8 of [E, in, out] experts"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """One value per expert and output."""
        shape = stored.codes.shape
        if len(shape) != 3:
            raise Unfit("weights [E, in, out]")
        E, rows, out = shape
        layout = Layout(shape, (E, 1, out), (rows, 1), fp8_code_format(stored))
        if stored.bmm:
            return {(E, out): layout}
        if stored.name.endswith(".weight"):
            raise Unfit("weights [E, out, in], which this name means")
        return {(E, 1, out): layout, (E, out, 1): layout}
