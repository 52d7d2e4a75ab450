# SPDX-License-Identifier: Apache-2.0
"""Attention operators of ATB, in the form the 310P has them; _npu_paged_attention also of A2, A3.

Which shapes, types and values they refuse and what they read of a mask: the host checks and kernels
of ascend-transformer-boost. A length that an NPU wants on the host and one that it wants on the
device are both on the CPU here, so mistaking one for the other is not seen.
"""

import torch

from vllm_ascend_bringup.emulation import device
from vllm_ascend_bringup.emulation.cache import is_fractal
from vllm_ascend_bringup.emulation.formats import FRACTAL_NZ, ND, get_npu_format
from vllm_ascend_bringup.kernels.attention_core import mask_cells
from vllm_ascend_bringup.kernels.flash_attention import flash_attention as flash_kernel
from vllm_ascend_bringup.kernels.nz_layout import to_nz
from vllm_ascend_bringup.kernels.nz_mask import mask_rows
from vllm_ascend_bringup.kernels.paged_attention import paged_attention as paged_kernel
from vllm_ascend_bringup.kernels.splitfuse_attention import splitfuse_attention as splitfuse_kernel

# The most that kernels of the 310P take: requests, columns of a head, heads, tokens of a block,
# columns of all heads together (the last three only where some request has several queries).
_REQUESTS, _HEAD_SIZE, _HEADS, _BLOCK, _COLUMNS = 2000, 256, 256, 128, 16384
_SIDE = 2048  # of a compressed mask
_HIDDEN = -10000.0  # enough for a probability of zero in float32


def flash_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: torch.Tensor,
) -> None:
    """See the kernel: the mask is added everywhere."""
    _check_prompt(query, key, value, seq_len, out)
    _check_format("mask", mask, FRACTAL_NZ)
    flash_kernel(query, key, value, mask, seq_len, scale_value, num_heads, num_kv_heads, out)


def flash_attention_unpad(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: torch.Tensor,
) -> None:
    """Without a mask: every token of a request sees all of them."""
    _check_prompt(query, key, value, seq_len, out)
    longest = _longest(seq_len, query)
    mask = to_nz(torch.zeros(longest, longest, dtype=query.dtype))
    flash_kernel(query, key, value, mask, seq_len, scale_value, num_heads, num_kv_heads, out)


def flash_attention_unpad_v2(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    *,
    kernel_type: int | None = 0,
    out: torch.Tensor,
) -> None:
    """kernel_type 2 has an approximate exponential on the NPU; its error is not emulated."""
    if kernel_type not in (0, 2):
        raise ValueError(f"kernel_type {kernel_type}: expected 0 or 2")
    flash_attention_unpad(query, key, value, seq_len, scale_value, num_heads, num_kv_heads, out)


def flash_attention_v3(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    *,
    mask_type: int | None = 3,
    out: torch.Tensor,
) -> None:
    """Of the mask it reads one tile: it is added where a tile of queries meets its own keys. Keys
    before that tile are seen and those after it are not, so a mask of zeros hides them as well.
    """
    _check_prompt(query, key, value, seq_len, out)
    _check_format("mask", mask, FRACTAL_NZ)
    expected = [1, _SIDE // 16, _SIDE, 16]
    if mask_type != 3 or list(mask.shape) != expected:
        found = f"mask_type {mask_type}, mask {list(mask.shape)}"
        raise ValueError(f"{found}: expected 3 and {expected}")
    tile = _COLUMNS // max(_BLOCK, query.shape[2]) // 16 * 16
    positions = torch.arange(_longest(seq_len, query))
    tiles, inside = positions // tile, positions % tile
    corner = mask_cells(mask, slice(tile), tile)
    read = corner[inside][:, inside]
    read[tiles[:, None] > tiles] = 0
    read[tiles[:, None] < tiles] = float("-inf")
    flash_kernel(query, key, value, to_nz(read), seq_len, scale_value, num_heads, num_kv_heads, out)


def paged_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    out: torch.Tensor,
    *,
    workspace: torch.Tensor | None = None,
) -> None:
    """See the kernel. workspace: memory for an NPU, on which the result does not depend."""
    nz = _check_paged(query, key_cache, value_cache, num_kv_heads, out)
    paged_kernel(
        query, key_cache, value_cache, num_kv_heads, num_heads, scale_value, block_table,
        context_lens, out, nz=nz,
    )  # fmt: skip


def splitfuse_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    out: torch.Tensor,
) -> None:
    """See the kernel: the mask has a row for each token and is added everywhere."""
    _check_format("mask", mask, FRACTAL_NZ)
    _splitfuse(
        query, key_cache, value_cache, block_table, context_lens, mask, seq_len, num_kv_heads,
        num_heads, scale_value, out,
    )  # fmt: skip


def splitfuse_attention_v2(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    *,
    mask_type: int | None = 5,
    out: torch.Tensor,
) -> None:
    """Causal, with the mask read only along the diagonal: one that is not causal is refused here.

    That is the result which ATB's own test of it expects. Its kernel seems to let some queries see
    a few later keys where more than 2048 are cached; that is not emulated.
    """
    _check_format("mask", mask, ND)
    if mask_type != 5 or mask.shape != (_SIDE, _SIDE) or mask.dtype != query.dtype:
        found = f"mask_type {mask_type}, mask {mask.dtype} {list(mask.shape)}"
        raise ValueError(f"{found}: expected 5 and {query.dtype} {[_SIDE, _SIDE]}")
    later = torch.ones(_SIDE, _SIDE, dtype=torch.bool).triu(1)
    if not torch.equal(mask != 0, later) or not torch.equal(mask <= _HIDDEN, later):
        raise ValueError(f"mask: expected zeros and, above the diagonal, {_HIDDEN} or less")
    pairs = zip(seq_len.tolist(), context_lens.tolist(), strict=True)
    positions = torch.cat([torch.arange(length - count, length) for count, length in pairs])
    rows = mask_rows(positions, int(context_lens.max()), query.dtype)
    _splitfuse(
        query, key_cache, value_cache, block_table, context_lens, rows, seq_len, num_kv_heads,
        num_heads, scale_value, out,
    )  # fmt: skip


def _splitfuse(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    mask: torch.Tensor,
    seq_len: torch.Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    out: torch.Tensor,
) -> None:
    nz = _check_paged(query, key_cache, value_cache, num_kv_heads, out)
    block_size, columns = key_cache.shape[2], num_heads * query.shape[2]
    if len(query) != len(seq_len) and (
        len(seq_len) > _REQUESTS or num_heads > _HEADS or block_size > _BLOCK or columns > _COLUMNS
    ):
        found = f"{len(seq_len)} requests, {num_heads} heads, {columns} columns of queries"
        raise ValueError(
            f"{found}, blocks of {block_size}: expected at most {_REQUESTS}, {_HEADS}, {_COLUMNS} "
            f"and {_BLOCK}"
        )
    splitfuse_kernel(
        query, key_cache, value_cache, block_table, context_lens, mask, seq_len, num_kv_heads,
        num_heads, scale_value, out, nz=nz,
    )  # fmt: skip


def _longest(seq_len: torch.Tensor, query: torch.Tensor) -> int:
    """No more than there are tokens: the kernel refuses lengths that say so."""
    return min(max(seq_len.tolist(), default=0), len(query))


def _check_prompt(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    seq_len: torch.Tensor,
    out: torch.Tensor,
) -> None:
    _check_tensors(query, key, value, out)
    if key.shape != value.shape or len(seq_len) > _REQUESTS:
        raise ValueError(
            f"key {list(key.shape)}, value {list(value.shape)}, {len(seq_len)} requests: expected "
            f"keys and values of one shape and at most {_REQUESTS} requests"
        )


def _check_paged(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    num_kv_heads: int,
    out: torch.Tensor,
) -> bool:
    """Returns whether the caches are in FRACTAL_NZ, as they are where the chip has them so."""
    _check_tensors(query, key_cache, value_cache, out)
    nz = device.chip().fractal_attention
    if is_fractal(key_cache, value_cache) != nz:
        raise ValueError(
            f"caches of format {get_npu_format(key_cache)}: expected {FRACTAL_NZ if nz else ND}"
        )
    size = query.shape[2]
    expected = [num_kv_heads * size // 16, key_cache.shape[2], 16] if nz else [num_kv_heads, size]
    first = 1 if nz else 2
    for cache in (key_cache, value_cache):
        if list(cache.shape[first:]) != expected or cache.shape != key_cache.shape:
            found = f"caches {list(key_cache.shape)} and {list(value_cache.shape)}"
            raise ValueError(f"{found}: expected both [..., {', '.join(map(str, expected))}]")
    return nz


def _check_tensors(query: torch.Tensor, *others: torch.Tensor) -> None:
    """others: the last is the output."""
    chip = device.chip()
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in (query, *others)}
    if len(dtypes) > 1 or not dtypes <= set(chip.dtypes):
        raise ValueError(f"{', '.join(sorted(dtypes))}: expected one of {', '.join(chip.dtypes)}")
    size = query.shape[-1]
    if query.dim() != 3 or (chip.fractal_attention and (size % 16 or size > _HEAD_SIZE)):
        raise ValueError(
            f"query {list(query.shape)}: expected [tokens, heads, size], the size a multiple of 16 "
            f"and at most {_HEAD_SIZE}"
        )
    if others[-1].shape != query.shape:
        raise ValueError(f"out {list(others[-1].shape)}: expected {list(query.shape)}, as query")


def _check_format(what: str, tensor: torch.Tensor, expected: int) -> None:
    if get_npu_format(tensor) != expected:
        raise ValueError(f"{what} of format {get_npu_format(tensor)}: expected {expected}")
