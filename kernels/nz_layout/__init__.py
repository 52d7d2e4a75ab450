# SPDX-License-Identifier: Apache-2.0
"""FRACTAL_NZ, the layout in which Ascend's matrix units read: columns of small fractals.

    nz[b, j // C0, i, j % C0] = matrix[b, i, j]

with C0 columns to a fractal and rows padded to 16. torch_npu's four-dimensional form, in which the
rows of fractals one below the other are one axis; its format id is 29. Padding is zero.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose

if TYPE_CHECKING:
    import torch

ROWS = 16
_BYTES = 32


def fractal_columns(dtype: "torch.dtype") -> int:
    """C0: what fits into 32 bytes, where four-byte types count as two bytes.

    Source: InferShapeNDToNZ in FormatHelper.cpp of Ascend/pytorch.
    """
    return _BYTES // min(dtype.itemsize, 2)


def nz_shape(rows: int, columns: int, c0: int) -> tuple[int, int, int]:
    """Of one matrix: columns of fractals, padded rows, C0."""
    return -(-columns // c0), -(-rows // ROWS) * ROWS, c0


def to_nz(matrix: "torch.Tensor", *, implementation: str | None = None) -> "torch.Tensor":
    """``[M, N]`` or ``[B, M, N]`` to ``[B, ceil(N / C0), 16 * ceil(M / 16), C0]``, B = 1 for one.

    Raises ValueError for other dimensions.
    """
    if matrix.dim() not in (2, 3):
        raise ValueError(f"matrix {list(matrix.shape)}: expected two or three dimensions")
    run = choose("nz_layout", implementation)
    made: torch.Tensor = run(matrix.reshape(-1, *matrix.shape[-2:]), fractal_columns(matrix.dtype))
    return made


def from_nz(fractals: "torch.Tensor", rows: int, columns: int) -> "torch.Tensor":
    """``[B, N1, M1, C0]`` to ``[B, rows, columns]``, without the padding.

    Raises ValueError if the fractals are not those of such matrices.
    """
    c0 = fractal_columns(fractals.dtype)
    if fractals.dim() != 4 or fractals.shape[1:] != nz_shape(rows, columns, c0):
        expected = ["B", *nz_shape(rows, columns, c0)]
        raise ValueError(f"fractals {list(fractals.shape)}: expected {expected}")
    return fractals.transpose(1, 2).flatten(2)[:, :rows, :columns].contiguous()
