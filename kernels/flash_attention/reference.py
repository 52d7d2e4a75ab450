# SPDX-License-Identifier: Apache-2.0
"""The definition of flash_attention, in torch, on whatever device its arguments are."""

from collections.abc import Sequence

import torch

from vllm_ascend_bringup.kernels.attention_core import attend, mask_cells

# Queries at a time, so that their mask as a float32 matrix stays small beside the one given.
_ROWS = 1024


def verify() -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    lengths: Sequence[int],
    scale: float,
    out: torch.Tensor,
) -> None:
    """See the package."""
    first = 0
    for length in lengths:
        keys = slice(first, first + length)
        for start in range(0, length, _ROWS):
            end = min(start + _ROWS, length)
            rows = slice(first + start, first + end)
            cells = mask_cells(mask, slice(start, end), length)
            found = attend(query[None, rows], key[None, keys], value[None, keys], scale, cells)
            out[rows] = found[0].to(out.dtype)
        first += length
