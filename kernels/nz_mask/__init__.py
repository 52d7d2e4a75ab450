# SPDX-License-Identifier: Apache-2.0
"""Rows of an additive attention mask, made in FRACTAL_NZ without a matrix in between.

Row i belongs to a query at position p_i of its sequence, column j to the key at position j:

    mask[i, j] = 0 if j <= p_i and (there is no window or j > p_i - window) else hidden

Padding, to 16 rows and columns, is zero, as everywhere in that layout: operators do not read it.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.nz_layout import fractal_columns, nz_shape

if TYPE_CHECKING:
    import torch


def mask_rows(
    positions: "torch.Tensor",
    width: int,
    dtype: "torch.dtype",
    *,
    window: int | None = None,
    hidden: float = float("-inf"),
    implementation: str | None = None,
) -> "torch.Tensor":
    """Causal rows for queries at ``positions`` ``[T]`` (integers), over ``width`` keys.

    window: how many keys a query sees at most, itself included, as vLLM counts. Returns
    ``[1, ceil(width / C0), 16 * ceil(T / 16), C0]`` of ``dtype`` on the device of ``positions``.
    Raises ValueError if there is nothing to make.
    """
    if positions.dim() != 1 or positions.is_floating_point():
        found = f"{positions.dtype} {list(positions.shape)}"
        raise ValueError(f"positions {found}: expected integers, one for each query")
    if width < 1 or not len(positions) or (window is not None and window < 1):
        found = f"{len(positions)} queries, width {width}, window {window}"
        raise ValueError(f"{found}: expected at least one of each")
    run = choose("nz_mask", implementation, dtype=dtype, device=positions.device.type)
    shape = nz_shape(len(positions), width, fractal_columns(dtype))
    made: torch.Tensor = run(positions, width, shape, dtype, window, hidden)
    return made.unsqueeze(0)


def mask_bytes(queries: int, width: int, itemsize: int = 2) -> int:
    """What such rows take, the result only: making it takes a few MiB more."""
    columns, rows, c0 = nz_shape(queries, width, 32 // min(itemsize, 2))
    return columns * rows * c0 * itemsize
