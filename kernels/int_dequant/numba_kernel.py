# SPDX-License-Identifier: Apache-2.0
"""int_dequant for the host, compiled by numba. One thread, without the GIL: the caller divides
rows over a thread pool.

As in fp4_dequant, 4-bit codes are decoded a byte at a time, to two columns in one 32-bit lane,
and the scales and zero points of a stretch of columns are written out before the inner loop.
"""

from typing import Any

import numba
import numpy as np
import torch

from vllm_ascend_bringup.kernels.numba_intrinsics import (
    FILL,
    compiled,
    expand,
    expand_pairs,
    flat,
    high_nibble,
    keepable,
    low_nibble,
    round_one,
    store_pair,
    to_bfloat16,
    to_float16,
    to_float32,
)

# Bytes of codes in a stretch: their scales stay in the innermost caches. A shorter one would pay
# more often for the start of a loop.
_STRETCH = 4096
_NO_ZERO = torch.empty(0, 0, dtype=torch.uint8)


def verify(out_dtype: torch.dtype) -> tuple[bool, str]:
    """Writes 16-bit outputs only."""
    return out_dtype in (torch.bfloat16, torch.float16), f"output dtype {out_dtype}"


def int_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor | None,
    out: torch.Tensor,
    bits: int,
    block: tuple[int, int],
    offset: tuple[int, int],
) -> None:
    """See the package: codes ``[N, B]`` uint8, scale ``[R, C]`` float32, zero ``[R, C]`` uint8,
    out ``[N, K]``.
    """
    decode = _decode_4_bits if bits == 4 else _decode_8_bits
    decode(
        flat(codes), codes.stride(0), scale.numpy(), (_NO_ZERO if zero is None else zero).numpy(),
        zero is not None, flat(out.view(torch.uint16)), out.stride(0), *out.shape, *block, *offset,
        out.dtype == torch.float16,
    )  # fmt: skip


@numba.njit(nogil=True, inline="always")
def _bytes_bfloat16(
    codes: Any, low: Any, high: Any, low_zero: Any, high_zero: Any, out: Any
) -> None:
    for j in range(codes.shape[0]):
        store_pair(
            out, j, to_bfloat16((to_float32(low_nibble(codes[j])) - low_zero[j]) * low[j]),
            to_bfloat16((to_float32(high_nibble(codes[j])) - high_zero[j]) * high[j]),
        )  # fmt: skip


@numba.njit(nogil=True, inline="always")
def _bytes_float16(
    codes: Any, low: Any, high: Any, low_zero: Any, high_zero: Any, out: Any
) -> None:
    for j in range(codes.shape[0]):
        store_pair(
            out, j, to_float16((to_float32(low_nibble(codes[j])) - low_zero[j]) * low[j]),
            to_float16((to_float32(high_nibble(codes[j])) - high_zero[j]) * high[j]),
        )  # fmt: skip


@numba.njit(nogil=True, inline="always")
def _row_bfloat16(codes: Any, scale: Any, zero: Any, out: Any) -> None:
    for j in range(codes.shape[0]):
        out[j] = to_bfloat16((to_float32(codes[j]) - zero[j]) * scale[j])


@numba.njit(nogil=True, inline="always")
def _row_float16(codes: Any, scale: Any, zero: Any, out: Any) -> None:
    for j in range(codes.shape[0]):
        out[j] = to_float16((to_float32(codes[j]) - zero[j]) * scale[j])


def _decode_packed_rows(
    codes: Any, codes_stride: int, scale: Any, zero: Any, has_zero: bool, out: Any,
    out_stride: int, N: int, K: int, bn: int, bk: int, r0: int, c0: int, float16: bool,
) -> None:  # fmt: skip
    if c0 + K <= bk:
        bk += bk % 2  # one block: an even width says the same
    low = np.empty(_STRETCH + FILL, np.float32)
    low_zero = np.full(_STRETCH + FILL, 8, np.float32)
    high = low if bk % 2 == 0 else np.empty_like(low)
    high_zero = low_zero if bk % 2 == 0 else np.full_like(low, 8)
    # Bytes of which both columns are wanted, counted in the whole weight, as `first` is.
    first, start, stop = c0 // 2, (c0 + 1) // 2, (c0 + K) // 2
    top = 0
    while top < N:
        block_row = (top + r0) // bn
        bottom = min(N, (block_row + 1) * bn - r0)
        for pair in range(start, stop, _STRETCH):
            count = min(_STRETCH, stop - pair)
            expand_pairs(scale[block_row], bk, pair, count, low, high)
            if has_zero:
                expand_pairs(zero[block_row], bk, pair, count, low_zero, high_zero)
            for i in range(top, bottom):
                at = i * codes_stride + pair - first
                to = i * out_stride + 2 * pair - c0
                row, target = codes[at : at + count], out[to : to + 2 * count]
                if float16:
                    _bytes_float16(row, low, high, low_zero, high_zero, target)
                else:
                    _bytes_bfloat16(row, low, high, low_zero, high_zero, target)
        for i in range(top, bottom):
            if c0 % 2:
                column = c0 // bk
                offset = numba.float32(zero[block_row, column] if has_zero else 8)
                code = high_nibble(codes[i * codes_stride])
                value = (to_float32(code) - offset) * keepable(scale[block_row, column])
                out[i * out_stride] = round_one(value, float16)
            if (c0 + K) % 2:
                column = (c0 + K - 1) // bk
                offset = numba.float32(zero[block_row, column] if has_zero else 8)
                code = low_nibble(codes[i * codes_stride + stop - first])
                value = (to_float32(code) - offset) * keepable(scale[block_row, column])
                out[i * out_stride + K - 1] = round_one(value, float16)
        top = bottom


def _decode_rows(
    codes: Any, codes_stride: int, scale: Any, zero: Any, has_zero: bool, out: Any,
    out_stride: int, N: int, K: int, bn: int, bk: int, r0: int, c0: int, float16: bool,
) -> None:  # fmt: skip
    scales = np.empty(_STRETCH + FILL, np.float32)
    zeros = np.full(_STRETCH + FILL, 128, np.float32)
    top = 0
    while top < N:
        block_row = (top + r0) // bn
        bottom = min(N, (block_row + 1) * bn - r0)
        for start in range(0, K, _STRETCH):
            count = min(_STRETCH, K - start)
            expand(scale[block_row], bk, c0 + start, count, scales)
            if has_zero:
                expand(zero[block_row], bk, c0 + start, count, zeros)
            for i in range(top, bottom):
                at, to = i * codes_stride + start, i * out_stride + start
                row, target = codes[at : at + count], out[to : to + count]
                if float16:
                    _row_float16(row, scales, zeros, target)
                else:
                    _row_bfloat16(row, scales, zeros, target)
        top = bottom


_decode_4_bits = compiled(_decode_packed_rows)
_decode_8_bits = compiled(_decode_rows)
