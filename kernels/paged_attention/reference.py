# SPDX-License-Identifier: Apache-2.0
"""The definition of paged_attention, in torch, on whatever device its arguments are."""

import torch

from vllm_ascend_bringup.kernels.attention_core import attend_tokens


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
    attend_tokens(
        query, [key_cache], value_cache, block_table, context_lens, num_kv_heads, scale, out,
        nz=nz,
    )  # fmt: skip
