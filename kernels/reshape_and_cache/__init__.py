# SPDX-License-Identifier: Apache-2.0
"""Write keys and values of a step into the paged cache, in place.

Token t goes to slot s = block * block_size + offset; a negative slot is left out. With
c = head * size + d, a column of the token's row:

    nd:  cache[block, offset, head, d] = row[head, d]          A2, A3
    nz:  cache[block, c // 16, offset, c % 16] = row[head, d]  310P

What torch_npu's _npu_reshape_and_cache does, by the host checks and kernels of
ascend-transformer-boost (reshape_and_cache_nz.cpp).
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose

if TYPE_CHECKING:
    import torch

_COLUMNS = 16


def reshape_and_cache(
    key: "torch.Tensor",
    value: "torch.Tensor",
    key_cache: "torch.Tensor",
    value_cache: "torch.Tensor",
    slot_indices: "torch.Tensor",
    *,
    nz: bool,
    implementation: str | None = None,
) -> None:
    """key, value: ``[T, heads, size]``; sizes may differ. slot_indices: int32 ``[T]``.

    Caches: ``[blocks, block_size, heads, size]``, or with ``nz`` ``[blocks, heads * size / 16,
    block_size, 16]``. Raises ValueError if they do not fit together, or a slot is beyond the cache.
    """
    import torch

    if slot_indices.dtype != torch.int32 or slot_indices.shape != key.shape[:1]:
        found = f"{slot_indices.dtype} {list(slot_indices.shape)}"
        raise ValueError(f"slot_indices {found}: expected torch.int32 {[len(key)]}")
    if key.shape[:2] != value.shape[:2]:
        raise ValueError(f"value {list(value.shape)}: expected tokens and heads as {key.shape[:2]}")
    for what, rows, cache in (("key", key, key_cache), ("value", value, value_cache)):
        _check(what, rows, cache, nz)
    blocks, block_size = (key_cache.shape[0], key_cache.shape[2 if nz else 1])
    if len(key) and int(slot_indices.max()) >= blocks * block_size:
        raise ValueError(
            f"slot {int(slot_indices.max())}: expected less than {blocks} blocks of {block_size}"
        )
    choose("reshape_and_cache", implementation)(
        key, value, key_cache, value_cache, slot_indices, nz=nz
    )


def _check(what: str, rows: "torch.Tensor", cache: "torch.Tensor", nz: bool) -> None:
    expected = ["blocks", "block size", *rows.shape[1:]]
    fits = rows.dim() == 3 and cache.dim() == 4 and cache.shape[2:] == rows.shape[1:]
    if nz:
        columns = rows.shape[1:].numel()
        expected = ["blocks", columns // _COLUMNS, "block size", _COLUMNS]
        fits = rows.dim() == 3 and cache.dim() == 4 and columns % _COLUMNS == 0
        fits = fits and cache.shape[1] * _COLUMNS == columns and cache.shape[3] == _COLUMNS
        fits = fits and cache.shape[2] % _COLUMNS == 0
    if not fits or rows.dtype != cache.dtype:
        raise ValueError(
            f"{what} {rows.dtype} {list(rows.shape)}, its cache {cache.dtype} "
            f"{list(cache.shape)}: expected a cache {expected} of the same dtype"
        )
