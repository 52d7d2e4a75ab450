# SPDX-License-Identifier: Apache-2.0
"""MLA's attention of one token of each request to its latents: _npu_paged_attention_mla.

The cache holds a row for each key, the latent and after it the rotary part; every head attends to
the whole row, and the values are its first ``mla_vheadsize`` columns.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.paged_attention import check_queries

if TYPE_CHECKING:
    import torch


def mla_decode(
    query: "torch.Tensor",
    key_cache: "torch.Tensor",
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: "torch.Tensor",
    context_lens: "torch.Tensor",
    mla_vheadsize: int,
    out: "torch.Tensor",
    *,
    implementation: str | None = None,
) -> None:
    """query: ``[B, num_heads, d]``. key_cache: ``[blocks, block_size, 1, d]``. block_table: int32
    ``[B, max_blocks]``. context_lens: int32 ``[B]``. out: ``[B, num_heads, mla_vheadsize]``.

    Raises ValueError if the arguments do not fit together.
    """
    check_queries(query, num_heads, num_kv_heads, block_table, context_lens)
    if key_cache.dim() != 4 or key_cache.shape[2:] != (1, query.shape[2]) or num_kv_heads != 1:
        expected = ["blocks", "block size", 1, query.shape[2]]
        raise ValueError(
            f"cache {list(key_cache.shape)} of {num_kv_heads} KV heads: expected {expected}, one"
        )
    if not 0 < mla_vheadsize <= query.shape[2] or out.shape != (*query.shape[:2], mla_vheadsize):
        raise ValueError(
            f"{mla_vheadsize} columns of values, out {list(out.shape)}: expected at most "
            f"{query.shape[2]}, and as many in out"
        )
    choose("mla_decode", implementation)(
        query, key_cache, scale_value, block_table, context_lens, mla_vheadsize, out
    )
