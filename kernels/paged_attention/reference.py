# SPDX-License-Identifier: Apache-2.0
"""The definition of paged_attention, in torch, on whatever device its arguments are."""

import torch

from vllm_ascend_bringup.kernels.attention_core import attend, read_cache


def verify() -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def paged_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    num_kv_heads: int,
    scale: float,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    out: torch.Tensor,
    *,
    nz: bool,
) -> None:
    """See the package."""
    for row, (blocks, length) in enumerate(zip(block_table, context_lens.tolist(), strict=True)):
        key, value = (
            read_cache(cache, blocks, length, num_kv_heads, nz=nz)
            for cache in (key_cache, value_cache)
        )
        out[row : row + 1] = attend(query[row : row + 1], key, value, scale).to(out.dtype)
