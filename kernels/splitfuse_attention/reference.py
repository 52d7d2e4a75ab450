# SPDX-License-Identifier: Apache-2.0
"""The definition of splitfuse_attention, in torch, on whatever device its arguments are."""

from collections.abc import Sequence

import torch

from vllm_ascend_bringup.kernels.attention_core import attend, mask_cells, read_caches


def verify() -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def splitfuse_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    contexts: Sequence[int],
    mask: torch.Tensor,
    queries: Sequence[int],
    num_kv_heads: int,
    scale: float,
    out: torch.Tensor,
    *,
    nz: bool,
) -> None:
    """See the package."""
    first = 0
    lengths = torch.tensor(contexts)
    for request, (length, count) in enumerate(zip(contexts, queries, strict=True)):
        rows, own = slice(first, first + count), slice(request, request + 1)
        key, value = read_caches(
            [key_cache, value_cache], block_table[own], lengths[own], num_kv_heads, nz=nz
        )
        cells = mask_cells(mask, rows, length)
        out[rows] = attend(query[None, rows], key, value, scale, cells)[0].to(out.dtype)
        first += count
