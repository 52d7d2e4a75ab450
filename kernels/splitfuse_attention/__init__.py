# SPDX-License-Identifier: Apache-2.0
"""Attention of a chunk of each request to its paged cache: _npu_paged_attention_splitfuse.

Request b owns ``seq_len[b]`` rows of the query, at the last positions of its ``context_lens[b]``
keys; ``mask`` has a row for each of them, in the same order.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.nz_layout import ROWS

if TYPE_CHECKING:
    import torch


def splitfuse_attention(
    query: "torch.Tensor",
    key_cache: "torch.Tensor",
    value_cache: "torch.Tensor",
    block_table: "torch.Tensor",
    context_lens: "torch.Tensor",
    mask: "torch.Tensor",
    seq_len: "torch.Tensor",
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    out: "torch.Tensor",
    *,
    nz: bool,
    implementation: str | None = None,
) -> None:
    """query, out: ``[T, num_heads, d]``, T the sum of seq_len. Caches: see ``reshape_and_cache``.

    block_table: int32 ``[B, max_blocks]``. context_lens, seq_len: int32 ``[B]``, seq_len on the
    host. mask: ``[1, >= longest / 16, 16 * ceil(T / 16), 16]`` of query's dtype, its second last
    dimension exactly that, because the kernel takes its stride from T. Raises ValueError if the
    arguments do not fit together.
    """
    import torch

    requests = len(block_table)
    for name, tensor in (("context_lens", context_lens), ("seq_len", seq_len)):
        if tensor.dtype != torch.int32 or tensor.shape != (requests,):
            found = f"{tensor.dtype} {list(tensor.shape)}"
            raise ValueError(f"{name} {found}: expected torch.int32 {[requests]}")
    queries, contexts = seq_len.tolist(), context_lens.tolist()
    if seq_len.device.type != "cpu" or any(
        not 0 < count <= length for count, length in zip(queries, contexts, strict=True)
    ):
        raise ValueError(
            f"seq_len {queries} on {seq_len.device}, context_lens {contexts}: expected host "
            "lengths, at least one query each, and no more than its keys"
        )
    expected_query = [sum(queries), num_heads, "d"]
    if query.dim() != 3 or list(query.shape[:2]) != expected_query[:2] or num_heads % num_kv_heads:
        raise ValueError(f"query {list(query.shape)}: expected {expected_query}")
    rows = -(-sum(queries) // ROWS) * ROWS
    columns = -(-max(contexts) // ROWS)
    fits = mask.dim() == 4 and mask.shape[0] == 1 and mask.shape[2:] == (rows, ROWS)
    if not fits or mask.shape[1] < columns or mask.dtype != query.dtype:
        expected = [1, f">= {columns}", rows, ROWS]
        raise ValueError(f"mask {mask.dtype} {list(mask.shape)}: expected {query.dtype} {expected}")
    choose("splitfuse_attention", implementation)(
        query, key_cache, value_cache, block_table, contexts, mask, queries, num_kv_heads,
        scale_value, out, nz=nz,
    )  # fmt: skip
