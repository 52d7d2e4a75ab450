# SPDX-License-Identifier: Apache-2.0
"""What the reference attentions share: one request, and its keys in a paged cache.

Scores, softmax and sums are float32; the result is rounded once, when it is written. The NPU
rounds scores and probabilities to 16 bits on the way, so it may differ by some of their roundings.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def attend(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    scale: float,
    mask: "torch.Tensor | None" = None,
) -> "torch.Tensor":
    """One request: ``[N, heads, d]``, ``[M, kv_heads, d]``, ``[M, kv_heads, dv]`` to
    ``[N, heads, dv]`` float32.

    Query head h attends to KV head ``h // (heads // kv_heads)``. mask: ``[N, M]``, added to the
    scaled scores. A query that sees no key becomes NaN.
    """
    import torch

    kv_heads = key.shape[1]
    grouped = query.float().unflatten(1, (kv_heads, -1))
    scores = torch.einsum("nkgd,mkd->kgnm", grouped, key.float()) * scale
    if mask is not None:
        scores = scores + mask.float()
    return torch.einsum("kgnm,mkv->nkgv", scores.softmax(-1), value.float()).flatten(1, 2)


def read_cache(
    cache: "torch.Tensor", blocks: "torch.Tensor", length: int, kv_heads: int, *, nz: bool
) -> "torch.Tensor":
    """The first ``length`` keys or values of a request: ``[length, kv_heads, size]``.

    cache: see ``reshape_and_cache``. blocks: ``[max_blocks]``, of which the first that are needed
    are read. Raises ValueError if they are too few, or one is not in the cache.
    """
    block_size = cache.shape[2 if nz else 1]
    needed = -(-length // block_size)
    if needed > len(blocks):
        raise ValueError(
            f"{length} keys need {needed} blocks of {block_size}, the table has {len(blocks)}"
        )
    used = blocks[:needed].long()
    if needed and not 0 <= int(used.min()) <= int(used.max()) < len(cache):
        raise ValueError(f"blocks {used.tolist()}: expected numbers below {len(cache)}")
    pages = cache[used]
    if nz:
        pages = pages.transpose(1, 2)
    return pages.reshape(needed * block_size, kv_heads, -1)[:length]


def mask_cells(mask: "torch.Tensor", rows: slice, width: int) -> "torch.Tensor":
    """Of a mask ``[1, N1, M1, C0]``: those rows as a matrix ``[rows, width]``."""
    columns = -(-width // mask.shape[3])
    return mask[0, :columns, rows].transpose(0, 1).flatten(1)[:, :width]
