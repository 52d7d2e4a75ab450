# SPDX-License-Identifier: Apache-2.0
"""Attention to a paged cache: of one token in the forms of all chips, of chunks in the 310P's.

An NPU wants lengths of chunks on the host and lengths of contexts on the device, on A2 and A3 on
the host; here nothing is on a device, so mistaking one for the other is not seen.
"""

import torch

from vllm_ascend_bringup.emulation.attention_checks import (
    REQUESTS,
    check_chip,
    check_dtypes,
    check_format,
    check_plain_chip,
    check_tensors,
)
from vllm_ascend_bringup.emulation.cache import fractal
from vllm_ascend_bringup.emulation.formats import FRACTAL_NZ, ND
from vllm_ascend_bringup.kernels import mla_decode as mla_kernel
from vllm_ascend_bringup.kernels import paged_attention as paged_kernel
from vllm_ascend_bringup.kernels import splitfuse_attention as splitfuse_kernel
from vllm_ascend_bringup.kernels.nz_mask import mask_rows

_SIDE = 2048  # of a mask of fixed size
_HIDDEN = -10000.0  # enough for a probability of zero in float32
# The most that a kernel takes where some request has several queries.
_HEADS, _BLOCK, _COLUMNS = 256, 128, 16384


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
    paged_kernel.paged_attention(
        query, key_cache, value_cache, num_kv_heads, num_heads, scale_value, block_table,
        context_lens, out, nz=nz,
    )  # fmt: skip


def paged_attention_mla(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: torch.Tensor,
    context_lens: torch.Tensor,
    mla_vheadsize: int,
    out: torch.Tensor,
) -> None:
    """See the kernel."""
    check_plain_chip()
    check_dtypes(query, key_cache, out)
    check_format("key_cache", key_cache, ND)
    mla_kernel.mla_decode(
        query, key_cache, num_kv_heads, num_heads, scale_value, block_table, context_lens,
        mla_vheadsize, out,
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
    check_format("mask", mask, FRACTAL_NZ)
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
    check_format("mask", mask, ND)
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
    check_chip()
    nz = _check_paged(query, key_cache, value_cache, num_kv_heads, out)
    block_size, columns = key_cache.shape[2], num_heads * query.shape[2]
    if len(query) != len(seq_len) and (
        len(seq_len) > REQUESTS or num_heads > _HEADS or block_size > _BLOCK or columns > _COLUMNS
    ):
        found = f"{len(seq_len)} requests, {num_heads} heads, {columns} columns of queries"
        raise ValueError(
            f"{found}, blocks of {block_size}: expected at most {REQUESTS}, {_HEADS}, {_COLUMNS} "
            f"and {_BLOCK}"
        )
    splitfuse_kernel.splitfuse_attention(
        query, key_cache, value_cache, block_table, context_lens, mask, seq_len, num_kv_heads,
        num_heads, scale_value, out, nz=nz,
    )  # fmt: skip


def _check_paged(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    num_kv_heads: int,
    out: torch.Tensor,
) -> bool:
    """Returns whether the caches are in FRACTAL_NZ."""
    check_tensors(query, key_cache, value_cache, out)
    nz = fractal(key_cache, value_cache)
    size = query.shape[2]
    expected = [num_kv_heads * size // 16, key_cache.shape[2], 16] if nz else [num_kv_heads, size]
    first = 1 if nz else 2
    for cache in (key_cache, value_cache):
        if list(cache.shape[first:]) != expected or cache.shape != key_cache.shape:
            found = f"caches {list(key_cache.shape)} and {list(value_cache.shape)}"
            raise ValueError(f"{found}: expected both [..., {', '.join(map(str, expected))}]")
    return nz
