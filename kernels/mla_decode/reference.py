# SPDX-License-Identifier: Apache-2.0
"""The definition of mla_decode, in torch, on whatever device its arguments are."""

import torch

from vllm_ascend_bringup.kernels.attention_core import attend_tokens


def verify() -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def mla_decode(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    scale: float,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    value_size: int,
    out: torch.Tensor,
) -> None:
    """See the package."""
    values = key_cache[..., :value_size]
    attend_tokens(query, [key_cache], values, block_table, context_lens, 1, scale, out, nz=False)
