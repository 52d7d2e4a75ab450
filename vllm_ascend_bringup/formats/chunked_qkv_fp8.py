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
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
    ceil_div,
    fp8_code_format,
)

if TYPE_CHECKING:
    import torch

_FUSED = "qkv_proj.weight"


class ChunkedQkvFp8(WeightFormat):
    """Scale ``[count * ceil(N / count / bn), ceil(K / bk)]`` of a weight ``[N, K]``."""

    id = "chunked_qkv_fp8"
    title = "chunked qkv block fp8"

    def layouts(self, stored: Stored, scheme: Scheme) -> Mapping[Shape, Layout]:
        """The tiled grid. In the common form each chunk is a matrix."""
        if scheme.chunks is None or scheme.block is None or not stored.name.endswith(_FUSED):
            raise Unfit("a fused qkv_proj of a model whose config says how it is chunked")
        if len(stored.codes.shape) != 2:
            raise Unfit("a weight of two dimensions")
        N, K = stored.codes.shape
        count = scheme.chunks.count
        height = sum(_rows_of_a_chunk(scheme.chunks, N))
        R, C = ceil_div(height, scheme.block[0]), ceil_div(K, scheme.block[1])
        shape, grid = (count, height, K), (count, R, C)
        return {(count * R, C): Layout(shape, grid, scheme.block, fp8_code_format(stored))}

    def codes(self, pairing: Pairing, codes: "torch.Tensor") -> "torch.Tensor":
        """``[count, rows of a chunk, K]``."""
        return super().codes(pairing, codes).view(pairing.layout.shape)

    def outputs(self, pairing: Pairing) -> tuple[tuple[str, Shape], ...]:
        """q_proj, k_proj and v_proj."""
        count, _, K = pairing.layout.shape
        parts = self.parts(pairing).items()
        return tuple((name, (count * (stop - start), K)) for name, (start, stop) in parts)

    def parts(self, pairing: Pairing) -> Mapping[str, tuple[int, int]]:
        """Which rows of each chunk are Q, K and V."""
        if pairing.scheme.chunks is None:
            raise ValueError("a chunked qkv_proj without chunks")
        q, k, v = _rows_of_a_chunk(pairing.scheme.chunks, pairing.stored.codes.shape[0])
        base = pairing.stored.name.removesuffix(_FUSED)
        return {
            f"{base}q_proj.weight": (0, q),
            f"{base}k_proj.weight": (q, q + k),
            f"{base}v_proj.weight": (q + k, q + k + v),
        }


def _rows_of_a_chunk(chunks: QkvChunks, N: int) -> tuple[int, int, int]:
    """The (Q, K, V) rows of a chunk of a weight of N rows. Raises Unfit if that is not certain."""
    fitting = {rows for rows in chunks.rows if sum(rows) * chunks.count == N}
    if len(fitting) != 1:
        choices = " or ".join(str(sum(rows) * chunks.count) for rows in chunks.rows)
        raise Unfit(f"{choices} rows, by the heads in the config, and no two ways to cut them")
    return fitting.pop()
