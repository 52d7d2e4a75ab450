# SPDX-License-Identifier: Apache-2.0
"""Attention of packed tokens: npu_fused_infer_attention_score of A2 and A3, layout TND.

Of a request with n queries and m keys, query i stands at i' = i + m - n, so that the last of both
are the same token. sparse_mode says which keys j it sees:

    0: all
    3: j <= i'
    4: i' - pre_tokens <= j <= i' + next_tokens

by the documentation of torch_npu's operator for 0 and 3, and of npu_fusion_attention for 4. In
modes 3 and 4 the operator wants a mask of 2048 x 2048 that it could do without: it is checked, and
not looked at. In mode 0 it would add a mask, of a shape that is not documented: refused here.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose

if TYPE_CHECKING:
    import torch

# The largest int32, torch_npu's way of saying that there is no limit.
UNLIMITED = 2147483647


def fused_infer_attention(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    *,
    atten_mask: "torch.Tensor | None" = None,
    actual_seq_lengths: Sequence[int],
    actual_seq_lengths_kv: Sequence[int],
    block_table: "torch.Tensor | None" = None,
    query_rope: "torch.Tensor | None" = None,
    key_rope: "torch.Tensor | None" = None,
    num_heads: int = 1,
    scale: float = 1.0,
    pre_tokens: int = UNLIMITED,
    next_tokens: int = UNLIMITED,
    num_key_value_heads: int = 0,
    sparse_mode: int = 0,
    block_size: int = 0,
    implementation: str | None = None,
) -> "torch.Tensor":
    """query: ``[T, num_heads, d]``, query_rope ``[T, num_heads, dr]``, to ``[T, num_heads, dv]``.

    Without block_table, key and value: ``[U, num_key_value_heads, d]``. With it, int32
    ``[B, max_blocks]``, they are caches ``[blocks, block_size, num_key_value_heads * d]`` or
    ``[blocks, num_key_value_heads, block_size, d]``. key_rope is shaped alike, of size dr.
    actual_seq_lengths: running totals of queries. actual_seq_lengths_kv: of keys, running totals
    without block_table and per request with it. num_key_value_heads: 0 means num_heads.
    Raises ValueError if the arguments do not fit together.
    """
    kv_heads = num_key_value_heads or num_heads
    if query.dim() != 3 or query.shape[1] != num_heads or num_heads % kv_heads:
        expected = f"[T, {num_heads}, d], in whole groups of {kv_heads} KV heads"
        raise ValueError(f"query {list(query.shape)}: expected {expected}")
    if (query_rope is None) != (key_rope is None):
        raise ValueError("query_rope and key_rope: expected both or neither")
    queries = _counts("actual_seq_lengths", actual_seq_lengths)
    paged = block_table is not None
    keys = list(actual_seq_lengths_kv)
    if not paged:
        keys = _counts("actual_seq_lengths_kv", actual_seq_lengths_kv)
    if len(queries) != len(keys) or sum(queries) != len(query) or min(keys, default=0) < 1:
        raise ValueError(
            f"{len(query)} queries, of each request {queries}, keys {keys}: expected as many "
            "requests in both, all queries among them and at least one key each"
        )
    if not paged and any(x.shape[1] != kv_heads or len(x) < sum(keys) for x in (key, value)):
        found = f"key {list(key.shape)}, value {list(value.shape)}"
        raise ValueError(f"{found}: expected [{sum(keys)}, {kv_heads}, size]")
    if sparse_mode not in (0, 3, 4):
        raise ValueError(f"sparse_mode {sparse_mode}: expected 0, 3 or 4")
    _check_mask(atten_mask, sparse_mode)
    if block_table is not None:
        key, value = (_blocks_first(cache, kv_heads, block_size) for cache in (key, value))
        if key_rope is not None:
            key_rope = _blocks_first(key_rope, kv_heads, block_size)
    made: torch.Tensor = choose("fused_infer_attention", implementation)(
        query, key, value, queries, keys, block_table, query_rope, key_rope, kv_heads, scale,
        {0: None, 3: (UNLIMITED, 0), 4: (pre_tokens, next_tokens)}[sparse_mode],
    )  # fmt: skip
    return made


def _counts(name: str, totals: Sequence[int]) -> list[int]:
    counts = [after - before for before, after in zip([0, *totals], totals, strict=False)]
    if not counts or min(counts) < 0:
        raise ValueError(f"{name} {list(totals)}: expected running totals")
    return counts


def _check_mask(mask: "torch.Tensor | None", sparse_mode: int) -> None:
    import torch

    if sparse_mode == 0:
        if mask is not None:
            raise ValueError("sparse_mode 0 with a mask: expected none")
        return
    found = "none" if mask is None else f"{mask.dtype} {list(mask.shape)}"
    dtypes = (torch.bool, torch.int8, torch.uint8)
    shapes = [(1,) * leading + (2048, 2048) for leading in range(3)]
    if mask is None or mask.shape not in shapes or mask.dtype not in dtypes:
        raise ValueError(
            f"mask {found} with sparse_mode {sparse_mode}: expected [2048, 2048] of bool, int8 or "
            "uint8"
        )


def _blocks_first(cache: "torch.Tensor", kv_heads: int, block_size: int) -> "torch.Tensor":
    """A cache of either shape as ``[blocks, block_size, KV, d]``."""
    if cache.dim() == 3 and cache.shape[1] == block_size and cache.shape[2] % kv_heads == 0:
        blocks, _, columns = cache.shape
        return cache.reshape(blocks, block_size, kv_heads, columns // kv_heads)
    if cache.dim() == 4 and cache.shape[1:3] == (kv_heads, block_size):
        return cache.transpose(1, 2)
    raise ValueError(
        f"cache {list(cache.shape)}: expected ['blocks', {block_size}, {kv_heads} * d] or "
        f"['blocks', {kv_heads}, {block_size}, d]"
    )
