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


def read_caches(
    caches: "Sequence[torch.Tensor]", table: "torch.Tensor", lengths: "torch.Tensor",
    kv_heads: int, *, nz: bool,
) -> "list[torch.Tensor]":  # fmt: skip
    """Keys or values of requests, ``[B, longest, KV, size]`` of each cache; zero past a request's.

    caches: see ``reshape_and_cache``. table: ``[B, max_blocks]``; of a row only the blocks that its
    length needs are looked at. Raises ValueError if they are too few, or one is not in the cache.
    """
    import torch

    block_size = caches[0].shape[2 if nz else 1]
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
    if not 0 <= int(blocks.min()) <= int(blocks.max()) < len(caches[0]):
        raise ValueError(f"blocks {blocks.tolist()}: expected numbers below {len(caches[0])}")
    past = None
    if int(lengths.min()) < longest:
        past = torch.arange(longest, device=table.device) >= lengths[:, None]
    found = []
    for cache in caches:
        pages = cache[blocks].transpose(2, 3) if nz else cache[blocks]
        rows = pages.reshape(len(table), columns * block_size, kv_heads, -1)[:, :longest]
        if past is not None:
            # Caches start uninitialized: what lies past the end may be NaN, which no mask hides.
            rows.masked_fill_(past[:, :, None, None], 0)  # a copy: the cache stays as it is
        found.append(rows)
    return found


def attend_tokens(
    query: "torch.Tensor",
    key_caches: "Sequence[torch.Tensor]",
    value_cache: "torch.Tensor",
    table: "torch.Tensor",
    lengths: "torch.Tensor",
    kv_heads: int,
    scale: float,
    out: "torch.Tensor",
    *,
    nz: bool,
) -> None:
    """One token of each request, ``[B, H, D]``, over its ``lengths`` keys: out ``[B, H, DV]``.

    key_caches: side by side they hold the D columns of a key. Requests of similar lengths are taken
    together, as many as fit into a fixed amount of memory.
    """
    import torch

    for group in _groups(lengths.tolist(), 8 * kv_heads * query.shape[2]):
        own = lengths[group].to(table.device)
        caches = [*key_caches, value_cache]
        *parts, value = read_caches(caches, table[group], own, kv_heads, nz=nz)
        key = parts[0] if len(parts) == 1 else torch.cat(parts, -1)
        seen = None
        if len(group) > 1:
            seen = (torch.arange(key.shape[1], device=key.device) < own[:, None])[:, None]
        found = attend(query[group, None], key, value, scale, seen)
        out[group] = found[:, 0].to(out.dtype)


def _groups(lengths: list[int], bytes_per_key: int) -> Iterator[list[int]]:
    """Requests that are padded to the longest of them for little: a quarter, or a few keys."""
    group: list[int] = []
    for request in sorted(range(len(lengths)), key=lengths.__getitem__):
        length = lengths[request]
        if group and (
            length > 1.25 * lengths[group[0]] + 64
            or bytes_per_key * length * (len(group) + 1) > _GATHERED
        ):
            yield group
            group = []
        group.append(request)
    yield group


def mask_cells(mask: "torch.Tensor", rows: slice, width: int) -> "torch.Tensor":
    """Of a mask ``[1, N1, M1, C0]``: those rows as a matrix ``[1, rows, width]``."""
    columns = -(-width // mask.shape[3])
    return mask[:, :columns, rows].transpose(1, 2).flatten(2)[..., :width]
