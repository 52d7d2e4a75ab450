# SPDX-License-Identifier: Apache-2.0
"""Attention of fresh prompts, in the forms of the 310P.

An NPU wants their lengths on the host; here nothing is on a device, so that is not seen.
"""

import torch

from vllm_ascend_bringup.emulation.attention_checks import (
    REQUESTS,
    check_chip,
    check_format,
    check_tensors,
)
from vllm_ascend_bringup.emulation.formats import FRACTAL_NZ
from vllm_ascend_bringup.kernels import flash_attention as kernel
from vllm_ascend_bringup.kernels.attention_core import mask_cells
from vllm_ascend_bringup.kernels.nz_layout import to_nz

_SIDE = 2048  # of a mask of fixed size
_TILE, _TILE_CELLS = 128, 16384  # queries or keys that a kernel takes at a time, and their columns


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: torch.Tensor,
) -> None:
    """See the kernel: the mask is added everywhere."""
    _check_prompt(query, key, value, seq_len, out)
    check_format("mask", mask, FRACTAL_NZ)
    kernel.flash_attention(
        query, key, value, mask, seq_len, scale_value, num_heads, num_kv_heads, out
    )


def flash_attention_unpad(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: torch.Tensor,
) -> None:
    """Without a mask: every token of a request sees all of them."""
    _check_prompt(query, key, value, seq_len, out)
    longest = _longest(seq_len, query)
    mask = to_nz(torch.zeros(longest, longest, dtype=query.dtype))
    kernel.flash_attention(
        query, key, value, mask, seq_len, scale_value, num_heads, num_kv_heads, out
    )


def flash_attention_unpad_v2(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    *,
    kernel_type: int | None = 0,
    out: torch.Tensor,
) -> None:
    """kernel_type 2 has an approximate exponential on the NPU; its error is not emulated."""
    if kernel_type not in (0, 2):
        raise ValueError(f"kernel_type {kernel_type}: expected 0 or 2")
    flash_attention_unpad(query, key, value, seq_len, scale_value, num_heads, num_kv_heads, out)


def flash_attention_v3(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    *,
    mask_type: int | None = 3,
    out: torch.Tensor,
) -> None:
    """Of the mask it reads one tile: it is added where a tile of queries meets its own keys. Keys
    before that tile are seen and those after it are not, so a mask of zeros hides them as well.
    """
    _check_prompt(query, key, value, seq_len, out)
    check_format("mask", mask, FRACTAL_NZ)
    expected = [1, _SIDE // 16, _SIDE, 16]
    if mask_type != 3 or list(mask.shape) != expected:
        found = f"mask_type {mask_type}, mask {list(mask.shape)}"
        raise ValueError(f"{found}: expected 3 and {expected}")
    tile = _TILE_CELLS // max(_TILE, query.shape[2]) // 16 * 16
    positions = torch.arange(_longest(seq_len, query))
    tiles, inside = positions // tile, positions % tile
    corner = mask_cells(mask, slice(tile), tile)[0]
    read = corner[inside][:, inside]
    read[tiles[:, None] > tiles] = 0
    read[tiles[:, None] < tiles] = float("-inf")
    kernel.flash_attention(
        query, key, value, to_nz(read), seq_len, scale_value, num_heads, num_kv_heads, out
    )


def _check_prompt(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seq_len: torch.Tensor,
    out: torch.Tensor,
) -> None:
    check_chip()
    check_tensors(query, key, value, out)
    if key.shape != value.shape or len(seq_len) > REQUESTS:
        raise ValueError(
            f"key {list(key.shape)}, value {list(value.shape)}, {len(seq_len)} requests: expected "
            f"keys and values of one shape and at most {REQUESTS} requests"
        )


def _longest(seq_len: torch.Tensor, query: torch.Tensor) -> int:
    """No more than there are tokens: the kernel refuses lengths that say so."""
    return min(int(seq_len.max()) if seq_len.numel() else 0, len(query))
