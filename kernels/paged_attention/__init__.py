# SPDX-License-Identifier: Apache-2.0
"""Attention of one token of each request to its paged cache: _npu_paged_attention.

Row b sees the ``context_lens[b]`` keys behind ``block_table[b]``, its own included.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose

if TYPE_CHECKING:
    import torch


def paged_attention(
    query: "torch.Tensor",
    key_cache: "torch.Tensor",
    value_cache: "torch.Tensor",
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: "torch.Tensor",
    context_lens: "torch.Tensor",
    out: "torch.Tensor",
    *,
    nz: bool,
    implementation: str | None = None,
) -> None:
    """query, out: ``[B, num_heads, d]``. Caches: see ``reshape_and_cache``. block_table: int32
    ``[B, max_blocks]``. context_lens: int32 ``[B]``.

    Raises ValueError if the arguments do not fit together.
    """
    check_queries(query, num_heads, num_kv_heads, block_table, context_lens)
    choose("paged_attention", implementation)(
        query, key_cache, value_cache, num_kv_heads, scale_value, block_table, context_lens, out,
        nz=nz,
    )  # fmt: skip


def check_queries(
    query: "torch.Tensor",
    num_heads: int,
    num_kv_heads: int,
    block_table: "torch.Tensor",
    context_lens: "torch.Tensor",
) -> None:
    """Raise ValueError unless there is one query, one table row and one length per request."""
    import torch

    if query.dim() != 3 or query.shape[1] != num_heads or num_heads % num_kv_heads:
        expected = f"[B, {num_heads}, d], in whole groups of {num_kv_heads} KV heads"
        raise ValueError(f"query {list(query.shape)}: expected {expected}")
    for name, tensor in (("block_table", block_table), ("context_lens", context_lens)):
        if tensor.dtype != torch.int32 or len(tensor) != len(query):
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise ValueError(f"{name} {found}: expected torch.int32, a row for each query")
