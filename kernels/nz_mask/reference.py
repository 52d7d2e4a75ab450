# SPDX-License-Identifier: Apache-2.0
"""The definition of mask_rows, in torch. It runs on whatever device its arguments are on."""

import torch

# Cells compared at a time, so that what is true of each needs little memory beside the mask.
_CELLS = 1 << 21


def verify(dtype: torch.dtype, device: str) -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def mask_rows(
    positions: torch.Tensor,
    width: int,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    window: int | None,
    hidden: float,
) -> torch.Tensor:
    """See the package: positions ``[T]`` to ``shape`` (columns of fractals, padded rows, C0)."""
    mask = torch.zeros(shape, dtype=dtype, device=positions.device)
    fractals, rows, c0 = shape
    queries = positions.view(1, -1, 1)
    slab = max(1, _CELLS // (rows * c0))
    for first in range(0, fractals, slab):
        part = mask[first : first + slab, : len(positions)]
        keys = torch.arange(first * c0, (first + len(part)) * c0, device=positions.device)
        keys = keys.view(-1, 1, c0)
        invisible = keys > queries
        if window is not None:
            invisible |= keys <= queries - window
        invisible &= keys < width
        part.masked_fill_(invisible, hidden)
    return mask
