# SPDX-License-Identifier: Apache-2.0
"""fp8_dequant for the host, compiled by numba.

One thread, without the GIL: the caller divides rows over a thread pool. (numba's own parallel
threads are not fork-safe, and vLLM forks.) The compiled code is cached on disk, so only the first
start on a machine pays for compilation.

The inner loops run over one row of one block, so the scale is a constant in them. Where blocks
are too short for that, the scales of a stretch of columns are written out first, one for each
column; the rows of one row of blocks share them.
"""

from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vllm_ascend_bringup.kernels.fp8_dequant.reference import every_value
from vllm_ascend_bringup.kernels.numba_intrinsics import (
    F32,
    FILL,
    I8,
    I16,
    I32,
    compiled,
    expand,
    flat,
    keepable,
    round_one,
    scale_row,
    scales,
    to_bfloat16,
    to_float16,
)

# Columns in a stretch: their scales stay in the inner caches. Shorter ones would walk through
# memory in short leaps, which the hardware's prefetching does not follow.
_STRETCH = 8192
# Columns that _lanes_bfloat16 decodes at a time.
LANES = 16
# From this width on, a block's row is worth a loop of its own.
_LONG = 33


def verify(out_dtype: torch.dtype, device: str, code_format: str) -> tuple[bool, str]:
    """Writes 16-bit outputs only, on the host."""
    if device != "cpu":
        return False, f"tensors on {device}"
    return out_dtype in (torch.bfloat16, torch.float16), f"output dtype {out_dtype}"


def fp8_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    scale_table: torch.Tensor | None,
    out: torch.Tensor,
    block: tuple[int, int],
    offset: tuple[int, int],
    code_format: str,
) -> bool:
    """See the package: codes, out ``[N, K]``, scale ``[R, C]``."""
    # The stride of a dimension of size 1 means nothing, and torch may leave it at any value.
    if (codes.shape[1] > 1 and codes.stride(1) != 1) or (out.shape[1] > 1 and out.stride(1) != 1):
        raise ValueError("codes and out: expected a contiguous last dimension")
    arguments = (
        flat(codes), codes.stride(0), *scales(scale, scale_table), flat(out.view(torch.uint16)),
        out.stride(0), *codes.shape, *block, *offset, out.dtype == torch.float16,
    )  # fmt: skip
    is_e4m3fn = code_format == "e4m3fn"
    if is_e4m3fn and block[1] < _LONG:
        return bool(_decode_short(*arguments))
    return bool(_decode(*arguments, every_value(code_format).numpy(), is_e4m3fn))


@intrinsic
def _e4m3fn(typing_context: Any, code: Any) -> Any:
    """The value of an e4m3fn code, NaN codes aside (they give +-480).

    The four exponent and three mantissa bits move to the top of a float32; adding 120 to the
    exponent field turns bias 7 into 127. Subnormal codes (exponent 0) are built as
    2**-6 * (1 + m / 8) - 2**-6 instead, so no float32 subnormal occurs that a process with
    flush-to-zero would lose.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wide = builder.zext(values[0], I32)
        magnitude = builder.and_(wide, I32(0x7F))
        shifted = builder.shl(magnitude, I32(20))
        normal = builder.bitcast(builder.add(shifted, I32(120 << 23)), F32)
        above = builder.bitcast(builder.add(shifted, I32(121 << 23)), F32)
        subnormal = builder.fsub(above, F32(2.0**-6))
        is_subnormal = builder.icmp_unsigned("<", magnitude, I32(8))
        sign = builder.shl(builder.and_(wide, I32(0x80)), I32(24))
        value = builder.bitcast(builder.select(is_subnormal, subnormal, normal), I32)
        return builder.bitcast(builder.or_(value, sign), F32)

    return types.float32(types.uint8), codegen


@intrinsic
def _nan_bit(typing_context: Any, code: Any) -> Any:
    """The top bit is set for the NaN codes 0x7f and 0xff. In 8 bits: 64 codes in a vector."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.add(builder.and_(values[0], I8(0x7F)), I8(1))

    return types.uint8(types.uint8), codegen


@intrinsic
def _or(typing_context: Any, left: Any, right: Any) -> Any:
    """Bitwise or in 8 bits; numba's own would widen to 64."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.or_(*values)

    return types.uint8(types.uint8, types.uint8), codegen


_BF16_NAN = 0x7FC0
_F16_NAN = 0x7E00


@intrinsic
def _lanes_bfloat16(typing_context: Any, codes: Any, out: Any, at: Any, scale: Any) -> Any:
    """``out[at : at + LANES]`` from ``codes[at : at + LANES]``, written out as vectors.

    ``scale``: one float32, or an array of one for each column.

    Rows of short blocks are over before the loop that LLVM makes of them is in its stride.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        codes_, out_, at_, scale_ = values

        def constant(type_: Any, value: float) -> Any:
            return ir.Constant(ir.VectorType(type_, LANES), [value] * LANES)

        def place(which: int, array: Any, type_: Any) -> Any:
            data = context.make_array(signature.args[which])(context, builder, array).data
            vector = ir.VectorType(type_, LANES)
            return builder.bitcast(builder.gep(data, [at_]), vector.as_pointer())

        floats, ints = ir.VectorType(F32, LANES), ir.VectorType(I32, LANES)
        # The steps of _e4m3fn.
        wide = builder.zext(builder.load(place(0, codes_, I8), align=1), ints)
        magnitude = builder.and_(wide, constant(I32, 0x7F))
        shifted = builder.shl(magnitude, constant(I32, 20))
        normal = builder.bitcast(builder.add(shifted, constant(I32, 120 << 23)), floats)
        above = builder.bitcast(builder.add(shifted, constant(I32, 121 << 23)), floats)
        subnormal = builder.fsub(above, constant(F32, 2.0**-6))
        is_subnormal = builder.icmp_unsigned("<", magnitude, constant(I32, 8))
        sign = builder.shl(builder.and_(wide, constant(I32, 0x80)), constant(I32, 24))
        value = builder.bitcast(builder.select(is_subnormal, subnormal, normal), ints)
        value = builder.bitcast(builder.or_(value, sign), floats)
        if per_column:
            factor = builder.load(place(3, scale_, F32), align=4)
        else:
            undefined = ir.Constant(floats, ir.Undefined)
            factor = builder.insert_element(undefined, scale_, I32(0))
            factor = builder.shuffle_vector(factor, undefined, constant(I32, 0))
        # The steps of to_bfloat16.
        bits = builder.bitcast(builder.fmul(value, factor), ints)
        last_kept = builder.and_(builder.lshr(bits, constant(I32, 16)), constant(I32, 1))
        rounded = builder.add(builder.add(bits, constant(I32, 0x7FFF)), last_kept)
        half = builder.trunc(builder.lshr(rounded, constant(I32, 16)), ir.VectorType(I16, LANES))
        builder.store(half, place(1, out_, I16), align=2)
        return context.get_dummy_value()

    per_column = isinstance(scale, types.Array)
    scale = scale if per_column else types.float32
    return types.void(codes, out, types.int64, scale), codegen


@numba.njit(nogil=True, inline="always")
def _row_bfloat16(codes: Any, out: Any, scale: Any) -> None:
    lanes = codes.shape[0] // LANES * LANES
    for j in range(0, lanes, LANES):
        _lanes_bfloat16(codes, out, j, scale)
    for j in range(lanes, codes.shape[0]):
        out[j] = to_bfloat16(_e4m3fn(codes[j]) * scale)


@numba.njit(nogil=True, inline="always")
def _row_float16(codes: Any, out: Any, scale: Any) -> None:
    for j in range(codes.shape[0]):
        out[j] = to_float16(_e4m3fn(codes[j]) * scale)


@numba.njit(nogil=True, inline="always")
def _columns_bfloat16(codes: Any, out: Any, scales: Any) -> None:
    lanes = codes.shape[0] // LANES * LANES
    for j in range(0, lanes, LANES):
        _lanes_bfloat16(codes, out, j, scales)
    for j in range(lanes, codes.shape[0]):
        out[j] = to_bfloat16(_e4m3fn(codes[j]) * scales[j])


@numba.njit(nogil=True, inline="always")
def _columns_float16(codes: Any, out: Any, scales: Any) -> None:
    for j in range(codes.shape[0]):
        out[j] = to_float16(_e4m3fn(codes[j]) * scales[j])


@numba.njit(nogil=True, inline="always")
def _row_by_table(codes: Any, out: Any, scale: Any, table: Any, float16: Any) -> Any:
    """The encodings that hardly occur, through their table of values."""
    nan = False
    for j in range(codes.shape[0]):
        value = table[codes[j]]
        if value != value:
            nan = True
            out[j] = _F16_NAN if float16 else _BF16_NAN
        else:
            out[j] = round_one(value * scale, float16)
    return nan


@numba.njit(nogil=True, inline="always")
def _keep_nan(codes: Any, out: Any, float16: Any) -> Any:
    """Put NaN where a row of e4m3fn codes has it. Rows hardly ever do, and looking first is
    cheaper than choosing at every element.
    """
    bits = numba.uint8(0)
    for j in range(codes.shape[0]):
        bits = _or(bits, _nan_bit(codes[j]))
    if bits < 0x80:
        return False
    for j in range(codes.shape[0]):
        if _nan_bit(codes[j]) == 0x80:
            out[j] = _F16_NAN if float16 else _BF16_NAN
    return True


def _decode_short_blocks(
    codes: Any, codes_stride: int, scale: Any, scale_codes: Any, scale_table: Any, out: Any,
    out_stride: int, N: int, K: int, bn: int, bk: int, r0: int, c0: int, float16: bool,
) -> Any:  # fmt: skip
    nan = False
    expanded = np.empty(_STRETCH + FILL, np.float32)
    looked_up = np.empty(scale_codes.shape[1], np.float32)
    first, last = c0 // bk, (c0 + K - 1) // bk
    top = 0
    while top < N:
        block_row = (top + r0) // bn
        bottom = min(N, (block_row + 1) * bn - r0)
        grid_row = scale_row(scale, scale_codes, scale_table, block_row, first, last, looked_up)
        for start in range(0, K, _STRETCH):
            count = min(_STRETCH, K - start)
            expand(grid_row, bk, c0 + start, count, expanded)
            for i in range(top, bottom):
                at, to = i * codes_stride + start, i * out_stride + start
                row, target = codes[at : at + count], out[to : to + count]
                if float16:
                    _columns_float16(row, target, expanded)
                else:
                    _columns_bfloat16(row, target, expanded)
                if _keep_nan(row, target, float16):
                    nan = True
        top = bottom
    return nan


def _decode_rows(
    codes: Any, codes_stride: int, scale: Any, scale_codes: Any, scale_table: Any, out: Any,
    out_stride: int, N: int, K: int, bn: int, bk: int, r0: int, c0: int, float16: bool,
    table: Any, is_e4m3fn: bool,
) -> Any:  # fmt: skip
    nan = False
    looked_up = np.empty(scale_codes.shape[1], np.float32)
    first, last = c0 // bk, (c0 + K - 1) // bk
    for i in range(N):
        block_row = (i + r0) // bn
        grid_row = scale_row(scale, scale_codes, scale_table, block_row, first, last, looked_up)
        row = codes[i * codes_stride : i * codes_stride + K]
        to = out[i * out_stride : i * out_stride + K]
        start = 0
        while start < K:
            block = (start + c0) // bk
            stop = min(K, (block + 1) * bk - c0)
            factor = keepable(grid_row[block])
            if not is_e4m3fn:
                found = _row_by_table(row[start:stop], to[start:stop], factor, table, float16)
                nan = nan or found
            elif float16:
                _row_float16(row[start:stop], to[start:stop], factor)
            else:
                _row_bfloat16(row[start:stop], to[start:stop], factor)
            start = stop
        if is_e4m3fn and _keep_nan(row, to, float16):
            nan = True
    return nan


_decode = compiled(_decode_rows)
_decode_short = compiled(_decode_short_blocks)
