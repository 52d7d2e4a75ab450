# SPDX-License-Identifier: Apache-2.0
"""What the reference attentions share: softmax over keys, and keys in a paged cache.

Scores, softmax and sums are float32; the result is rounded once, when it is written. The NPU
rounds scores and probabilities to 16 bits on the way, so it may differ by some of their roundings.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Bytes of float32 keys and values that attend_tokens gathers at a time.
_GATHERED = 1 << 27


def attend(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    scale: float,
    mask: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """``[B, N, H, D]``, ``[B, M, KV, D]``, ``[B, M, KV, DV]`` to ``[B, N, H, DV]`` float32.

    Query head h attends to KV head ``h // (H // KV)``. mask: ``[B, N, M]``, added to the scaled
    scores, or bool, true where a query sees a key. A query that sees no key becomes zero.
    """
    from torch.nn.functional import scaled_dot_product_attention

    if mask is not None:
        mask = (mask.float() if mask.is_floating_point() else mask).unsqueeze(1)
    found: torch.Tensor = scaled_dot_product_attention(
        query.float().transpose(1, 2), key.float().transpose(1, 2), value.float().transpose(1, 2),
        attn_mask=mask, scale=scale, enable_gqa=True,
    )  # fmt: skip
    return found.transpose(1, 2)


def read_cache(
    cache: "torch.Tensor", table: "torch.Tensor", lengths: "torch.Tensor", kv_heads: int, *,
    nz: bool,
) -> "torch.Tensor":  # fmt: skip
    """The keys or values of requests, ``[B, longest, KV, size]``; zero past a request's own.

    cache: see ``reshape_and_cache``. table: ``[B, max_blocks]``; of a row only the blocks that its
    length needs are looked at. Raises ValueError if they are too few, or one is not in the cache.
    """
    import torch

    block_size = cache.shape[2 if nz else 1]
    lengths = lengths.to(table.device, torch.long)
    longest = int(lengths.max())
    needed = (lengths + block_size - 1) // block_size
    columns = -(-longest // block_size)
    if columns > table.shape[1]:
        raise ValueError(
            f"{longest} keys need {columns} blocks of {block_size}, the table has {table.shape[1]}"
        )
    blocks = table[:, :columns].long()
    # What is past a request's blocks may be anything; its first block stands in.
    own = torch.arange(columns, device=table.device) < needed[:, None]
    blocks = torch.where(own, blocks, blocks[:, :1])
    if not 0 <= int(blocks.min()) <= int(blocks.max()) < len(cache):
        raise ValueError(f"blocks {blocks.tolist()}: expected numbers below {len(cache)}")
    pages = cache[blocks]
    if nz:
        pages = pages.transpose(2, 3)
    rows = pages.reshape(len(table), columns * block_size, kv_heads, -1)[:, :longest]
    if int(lengths.min()) == longest:
        return rows
    # Caches start uninitialized: what lies past the end may be NaN, which no mask would hide.
    past = torch.arange(longest, device=table.device) >= lengths[:, None]
    return rows.masked_fill_(past[:, :, None, None], 0)  # a copy: the cache stays as it is


def attend_tokens(
    query: "torch.Tensor",
    key_caches: "Sequence[torch.Tensor]",
    value_cache: "torch.Tensor",
    table: "torch.Tensor",
    lengths: "torch.Tensor",
    kv_heads: int,
    scale: float,
    *,
    nz: bool,
) -> "torch.Tensor":
    """One token of each request, ``[B, H, D]``, over its ``lengths`` keys: ``[B, H, DV]`` float32.

    key_caches: side by side they hold the D columns of a key. Requests are taken together, as many
    as fit into a fixed amount of memory.
    """
    import torch

    found = []
    for part in _parts(len(query), int(lengths.max()) * 8 * kv_heads * query.shape[2]):
        *parts, value = (
            read_cache(cache, table[part], lengths[part], kv_heads, nz=nz)
            for cache in (*key_caches, value_cache)
        )
        key = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        keys = torch.arange(key.shape[1], device=key.device)
        seen = keys < lengths[part, None].to(key.device)
        found.append(attend(query[part, None], key, value, scale, seen[:, None])[:, 0])
    return torch.cat(found)


def _parts(count: int, bytes_each: int) -> Iterator[slice]:
    step = max(1, _GATHERED // max(1, bytes_each))
    return (slice(first, first + step) for first in range(0, count, step))


def mask_cells(mask: "torch.Tensor", rows: slice, width: int) -> "torch.Tensor":
    """Of a mask ``[1, N1, M1, C0]``: those rows as a matrix ``[1, rows, width]``."""
    columns = -(-width // mask.shape[3])
    return mask[:, :columns, rows].transpose(1, 2).flatten(2)[..., :width]
