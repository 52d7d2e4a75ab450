# SPDX-License-Identifier: Apache-2.0
"""fp4_dequant for the host, compiled by numba. One thread, without the GIL: the caller divides
rows over a thread pool.

The inner loop decodes a byte to the two columns it holds, in one 32-bit lane: nothing has to be
shuffled between lanes. The scales of a stretch of columns are written out before it, one for each
byte, since blocks of 16 or 32 columns are too short for a loop of their own.
"""

from typing import Any

import numba
import numpy as np
import torch
from numba import types
from numba.extending import intrinsic

from vllm_ascend_bringup.kernels.numba_intrinsics import (
    F32,
    FILL,
    I32,
    compiled,
    expand_pairs,
    flat,
    high_nibble,
    keepable,
    low_nibble,
    round_one,
    scale_row,
    scales,
    store_pair,
    to_bfloat16,
    to_float16,
)

# Bytes of codes in a stretch: their scales stay in the innermost caches. A shorter one would pay
# more often for the start of a loop.
_STRETCH = 4096


def verify(out_dtype: torch.dtype) -> tuple[bool, str]:
    """Writes 16-bit outputs only."""
    return out_dtype in (torch.bfloat16, torch.float16), f"output dtype {out_dtype}"


def fp4_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    scale_table: torch.Tensor | None,
    out: torch.Tensor,
    block: tuple[int, int],
    offset: tuple[int, int],
) -> None:
    """See the package: codes ``[N, B]`` uint8, scale ``[R, C]``, out ``[N, K]``."""
    _decode(
        flat(codes), codes.stride(0), *scales(scale, scale_table), flat(out.view(torch.uint16)),
        out.stride(0), *out.shape, *block, *offset, out.dtype == torch.float16,
    )  # fmt: skip


@intrinsic
def _e2m1(typing_context: Any, code: Any) -> Any:
    """The value of an e2m1 code.

    The two exponent bits and the mantissa bit move to the top of a float32; adding 126 to the
    exponent field turns bias 1 into 127. Codes 0 and 1 (exponent 0) are built as
    1 * (1 + m / 2) - 1 instead, so no float32 subnormal occurs that a process with flush-to-zero
    would lose.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wide = builder.zext(values[0], I32)
        magnitude = builder.and_(wide, I32(7))
        shifted = builder.shl(magnitude, I32(22))
        normal = builder.bitcast(builder.add(shifted, I32(126 << 23)), F32)
        above = builder.bitcast(builder.add(shifted, I32(127 << 23)), F32)
        subnormal = builder.fsub(above, F32(1.0))
        is_subnormal = builder.icmp_unsigned("<", magnitude, I32(2))
        sign = builder.shl(builder.and_(wide, I32(8)), I32(28))
        value = builder.bitcast(builder.select(is_subnormal, subnormal, normal), I32)
        return builder.bitcast(builder.or_(value, sign), F32)

    return types.float32(types.uint8), codegen


@numba.njit(nogil=True, inline="always")
def _bytes_bfloat16(codes: Any, low: Any, high: Any, out: Any) -> None:
    for j in range(codes.shape[0]):
        store_pair(
            out, j, to_bfloat16(_e2m1(low_nibble(codes[j])) * low[j]),
            to_bfloat16(_e2m1(high_nibble(codes[j])) * high[j]),
        )  # fmt: skip


@numba.njit(nogil=True, inline="always")
def _bytes_float16(codes: Any, low: Any, high: Any, out: Any) -> None:
    for j in range(codes.shape[0]):
        store_pair(
            out, j, to_float16(_e2m1(low_nibble(codes[j])) * low[j]),
            to_float16(_e2m1(high_nibble(codes[j])) * high[j]),
        )  # fmt: skip


def _decode_rows(
    codes: Any, codes_stride: int, scale: Any, scale_codes: Any, scale_table: Any, out: Any,
    out_stride: int, N: int, K: int, bn: int, bk: int, r0: int, c0: int, float16: bool,
) -> None:  # fmt: skip
    if c0 + K <= bk:
        bk += bk % 2  # one block: an even width says the same
    low = np.empty(_STRETCH + FILL, np.float32)
    high = low if bk % 2 == 0 else np.empty(_STRETCH + FILL, np.float32)
    # Bytes of which both columns are wanted, counted in the whole weight, as `first` is.
    first, start, stop = c0 // 2, (c0 + 1) // 2, (c0 + K) // 2
    left, right = c0 // bk, (c0 + K - 1) // bk
    looked_up = np.empty(scale_codes.shape[1], np.float32)
    top = 0
    while top < N:
        block_row = (top + r0) // bn
        bottom = min(N, (block_row + 1) * bn - r0)
        grid_row = scale_row(scale, scale_codes, scale_table, block_row, left, right, looked_up)
        for pair in range(start, stop, _STRETCH):
            count = min(_STRETCH, stop - pair)
            expand_pairs(grid_row, bk, pair, count, low, high)
            for i in range(top, bottom):
                at = i * codes_stride + pair - first
                to = i * out_stride + 2 * pair - c0
                if float16:
                    _bytes_float16(codes[at : at + count], low, high, out[to : to + 2 * count])
                else:
                    _bytes_bfloat16(codes[at : at + count], low, high, out[to : to + 2 * count])
        for i in range(top, bottom):
            if c0 % 2:
                value = _e2m1(high_nibble(codes[i * codes_stride])) * keepable(grid_row[c0 // bk])
                out[i * out_stride] = round_one(value, float16)
            if (c0 + K) % 2:
                code = low_nibble(codes[i * codes_stride + stop - first])
                value = _e2m1(code) * keepable(grid_row[(c0 + K - 1) // bk])
                out[i * out_stride + K - 1] = round_one(value, float16)
        top = bottom


_decode = compiled(_decode_rows)
