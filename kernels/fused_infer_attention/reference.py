# SPDX-License-Identifier: Apache-2.0
"""The definition of fused_infer_attention, in torch, on whatever device its arguments are."""

from collections.abc import Sequence

import torch

from vllm_ascend_bringup.kernels.attention_core import attend, attend_tokens, read_caches


def verify() -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def fused_infer_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    queries: Sequence[int],
    keys: Sequence[int],
    table: torch.Tensor | None,
    query_rope: torch.Tensor | None,
    key_rope: torch.Tensor | None,
    kv_heads: int,
    scale: float,
    band: tuple[int, int] | None,
) -> torch.Tensor:
    """See the package; caches ``[blocks, block_size, KV, d]``. band: keys seen before and after
    a query's own, None for all.
    """
    key_parts = [key] if key_rope is None else [key, key_rope]
    if query_rope is not None:
        query = torch.cat([query, query_rope], -1)
    lengths = torch.tensor(keys)
    out = query.new_empty(*query.shape[:2], value.shape[-1])
    # A single query is its request's last token: nothing comes after it, what is before is seen.
    if (
        table is not None
        and max(queries) == min(queries) == 1
        and (not band or band[0] >= max(keys))
    ):
        attend_tokens(query, key_parts, value, table, lengths, kv_heads, scale, out, nz=False)
        return out
    first, first_key = 0, 0
    for request, (count, length) in enumerate(zip(queries, keys, strict=True)):
        rows, key_rows = slice(first, first + count), slice(first_key, first_key + length)
        own = slice(request, request + 1)
        parts = [*key_parts, value]
        if table is None:
            *own_key, own_value = (part[None, key_rows] for part in parts)
        else:
            *own_key, own_value = read_caches(parts, table[own], lengths[own], kv_heads, nz=False)
        seen = _seen(count, length, band, query.device)
        merged = own_key[0] if len(own_key) == 1 else torch.cat(own_key, -1)
        found = attend(query[None, rows], merged, own_value, scale, seen)
        out[rows] = found[0].to(out.dtype)
        first, first_key = first + count, first_key + length
    return out


def _seen(
    queries: int, keys: int, band: tuple[int, int] | None, device: torch.device
) -> torch.Tensor | None:
    if band is None:
        return None
    before, after = band
    positions = torch.arange(keys - queries, keys, device=device)[None, :, None]
    columns = torch.arange(keys, device=device)
    seen = columns <= positions + after
    return seen if before >= keys else seen & (columns >= positions - before)
