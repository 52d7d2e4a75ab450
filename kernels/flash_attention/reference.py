# SPDX-License-Identifier: Apache-2.0
"""The definition of flash_attention, in torch, on whatever device its arguments are."""

from collections.abc import Sequence

import torch

from vllm_ascend_bringup.kernels.attention_core import attend, mask_cells


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
        rows = slice(first, first + length)
        cells = mask_cells(mask, slice(length), length)
        out[rows] = attend(query[rows], key[rows], value[rows], scale, cells).to(out.dtype)
        first += length
