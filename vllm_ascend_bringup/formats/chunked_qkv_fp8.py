# SPDX-License-Identifier: Apache-2.0
"""MiMo-V2's fused qkv_proj in block fp8: chunks ``[Q_0 | K_0 | V_0 | Q_1 | ...]``, tiled scales.

Each chunk has whole blocks of its own, so the scale has ``count * ceil(rows of a chunk / bn)``
rows, which can be more than the weight's own grid. Decoded, it becomes q_proj, k_proj and v_proj,
in the order of heads that vLLM's fused loader expects. Source: vLLM,
model_executor/models/mimo_v2.py (_shard_fp8_qkv_proj).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from vllm_ascend_bringup.formats.base import (
    Layout,
    Pairing,
    QkvChunks,
    Rows,
    Scheme,
    Shape,
    Stored,
    Tensors,
    Unfit,
    WeightFormat,
    ceil_div,
    fp8_code_format,
    scale_values,
)

if TYPE_CHECKING:
    import torch

_FUSED = "qkv_proj.weight"


class ChunkedQkvFp8(WeightFormat):
    """Scale ``[count * ceil(N / count / bn), ceil(K / bk)]`` of a weight ``[N, K]``."""

    id = "chunked_qkv_fp8"
    title = "chunked qkv block fp8"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """The tiled grid. Decoded through one scale row per weight row."""
        if scheme.chunks is None or scheme.block is None or not stored.name.endswith(_FUSED):
            raise Unfit("a fused qkv_proj of a model whose config says how it is chunked")
        N, K = stored.codes.shape[-2:]
        count = scheme.chunks.count
        rows = _rows_of_a_chunk(scheme.chunks, N)
        columns = ceil_div(K, scheme.block[1])
        tiled = (count * ceil_div(sum(rows), scheme.block[0]), columns)
        layout = Layout((N, K), (N, columns), (1, scheme.block[1]), fp8_code_format(stored))
        return {tiled: layout}

    def grid(self, pairing: Pairing, partners: Tensors) -> "torch.Tensor":
        """The tiled scale, a row of it for each row of the weight."""
        import torch

        if pairing.scheme.chunks is None or pairing.scheme.block is None:
            raise ValueError("a chunked qkv_proj without chunks or block size")
        N, count = pairing.layout.shape[-2], pairing.scheme.chunks.count
        bn = pairing.scheme.block[0]
        row, rows = torch.arange(N, device="cpu"), N // count
        tiled = row // rows * ceil_div(rows, bn) + row % rows // bn
        return scale_values(pairing.stored.scale, partners["scale"])[tiled]

    def outputs(self, pairing: Pairing) -> tuple[tuple[str, Shape], ...]:
        """q_proj, k_proj and v_proj."""
        K = pairing.layout.shape[-1]
        return tuple((name, (rows.number, K)) for name, rows in self.parts(pairing).items())

    def parts(self, pairing: Pairing) -> Mapping[str, Rows]:
        """Which rows are Q, K and V."""
        if pairing.scheme.chunks is None:
            raise ValueError("a chunked qkv_proj without chunks")
        count = pairing.scheme.chunks.count
        q, k, v = _rows_of_a_chunk(pairing.scheme.chunks, pairing.layout.shape[-2])
        base = pairing.stored.name.removesuffix(_FUSED)
        return {
            f"{base}q_proj.weight": Rows(count, 0, q),
            f"{base}k_proj.weight": Rows(count, q, q + k),
            f"{base}v_proj.weight": Rows(count, q + k, q + k + v),
        }


def _rows_of_a_chunk(chunks: QkvChunks, N: int) -> tuple[int, int, int]:
    """The (Q, K, V) rows of a chunk of a weight of N rows. Raises Unfit if that is not certain."""
    fitting = {rows for rows in chunks.rows if sum(rows) * chunks.count == N}
    if len(fitting) != 1:
        choices = " or ".join(str(sum(rows) * chunks.count) for rows in chunks.rows)
        raise Unfit(f"{choices} rows, by the heads in the config, and no two ways to cut them")
    return fitting.pop()
