# SPDX-License-Identifier: Apache-2.0
"""What the numba kernels share.

numba has no bit casts, and it widens integer arithmetic to 64 bit, which halves the speed of
vector code. So the steps between integers and floats are intrinsics here: plain LLVM IR, the same
for x86 and aarch64, which LLVM vectorizes in the loops that use them.
"""

import logging
import sys
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

I8, I16, I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
F16, F32 = ir.HalfType(), ir.FloatType()
# Elements that one `fill` writes: arrays that `expand` fills have this much room at their end.
FILL = 8


def compiled(function: Callable[..., Any]) -> Any:
    """Compile ``function`` to run without the GIL, and keep the result on disk."""
    # numba compiles again when the function's own file changes, not when this one does; the name
    # is part of the cache file's name.
    function.__qualname__ += f"_{zlib.crc32(Path(__file__).read_bytes()):08x}"
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError as error:
        # A read-only installation without a home folder. Compiling costs each process a second.
        logging.getLogger(__name__).info("set NUMBA_CACHE_DIR for faster starts: %s", error)
        return numba.njit(nogil=True)(function)


def flat(matrix: torch.Tensor) -> Any:
    """The memory a ``[N, K]`` matrix spans as a contiguous 1-D array: numba then knows that
    neighbours are adjacent, which a strided 2-D array does not tell it.
    """
    span = (matrix.shape[0] - 1) * matrix.stride(0) + matrix.shape[1]
    return matrix.as_strided((span,), (1,), matrix.storage_offset()).numpy()


_NO_VALUES = np.empty((0, 0), np.float32)
_NO_CODES = np.empty((0, 0), np.uint8)


def scales(scale: torch.Tensor, table: torch.Tensor | None) -> tuple[Any, Any, Any]:
    """(values ``[R, C]`` float32, codes ``[R, C]`` uint8, table) for ``scale_row``; what there is
    not is empty, so that kernels need one signature.
    """
    if table is None:
        return scale.numpy(), _NO_CODES, _NO_VALUES.reshape(-1)
    return _NO_VALUES, scale.numpy(), table.numpy()


@numba.njit(nogil=True, inline="always")
def scale_row(values: Any, codes: Any, table: Any, row: Any, first: Any, last: Any, to: Any) -> Any:
    """One row of the grid, float32 ``[C]``; by way of ``to`` from column ``first`` to ``last`` if
    the scales are codes.
    """
    if table.shape[0] == 0:
        return values[row]
    for column in range(first, last + 1):
        to[column] = table[codes[row, column]]
    return to


@intrinsic
def to_bfloat16(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 (not NaN with the low 15 bits set) rounded to bfloat16, to nearest
    even.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], I32)
        last_kept = builder.and_(builder.lshr(bits, I32(16)), I32(1))
        rounded = builder.add(builder.add(bits, I32(0x7FFF)), last_kept)
        return builder.trunc(builder.lshr(rounded, I32(16)), I16)

    return types.uint16(types.float32), codegen


@intrinsic
def to_float16(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 rounded to float16, to nearest even (the instruction does that)."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.fptrunc(values[0], F16), I16)

    return types.uint16(types.float32), codegen


@intrinsic
def low_nibble(typing_context: Any, byte: Any) -> Any:
    """The low four bits of a byte."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.and_(values[0], I8(0x0F))

    return types.uint8(types.uint8), codegen


@intrinsic
def high_nibble(typing_context: Any, byte: Any) -> Any:
    """The high four bits of a byte."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.lshr(values[0], I8(4))

    return types.uint8(types.uint8), codegen


@intrinsic
def to_float32(typing_context: Any, code: Any) -> Any:
    """An integer code as float32."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        # Signed: vector units without AVX-512 have no unsigned conversion.
        return builder.sitofp(builder.zext(values[0], I32), F32)

    return types.float32(types.uint8), codegen


@intrinsic
def store_pair(typing_context: Any, array: Any, index: Any, first: Any, second: Any) -> Any:
    """``array[2 * index], array[2 * index + 1] = first, second`` in one 32-bit store, so that
    the two codes of a byte stay in its vector lane. ``array``: contiguous uint16.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array_, index_, *pair = values
        if sys.byteorder == "big":
            pair.reverse()
        low, high = (builder.zext(half, I32) for half in pair)
        both = builder.or_(low, builder.shl(high, I32(16)))
        data = context.make_array(signature.args[0])(context, builder, array_).data
        to = builder.gep(data, [builder.shl(index_, index_.type(1))])
        # Aligned as its halves are: `out` may start at any element.
        builder.store(both, builder.bitcast(to, I32.as_pointer()), align=2)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.uint16, types.uint16), codegen


@intrinsic
def fill(typing_context: Any, array: Any, index: Any, value: Any) -> Any:
    """``array[index : index + FILL] = value``. ``array``: contiguous float32."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        array_, index_, value_ = values
        vector = ir.VectorType(F32, FILL)
        splat = builder.insert_element(ir.Constant(vector, ir.Undefined), value_, I32(0))
        zeros = ir.Constant(ir.VectorType(I32, FILL), [0] * FILL)
        splat = builder.shuffle_vector(splat, ir.Constant(vector, ir.Undefined), zeros)
        data = context.make_array(signature.args[0])(context, builder, array_).data
        to = builder.gep(data, [index_])
        builder.store(splat, builder.bitcast(to, vector.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.float32), codegen


@numba.njit(nogil=True, inline="always")
def keepable(value: Any) -> Any:
    """``value``; if that is NaN, one whose low bits are zero, which to_bfloat16 keeps."""
    return value if value == value else numba.float32(np.nan)


@numba.njit(nogil=True, inline="always")
def round_one(value: Any, float16: Any) -> Any:
    """The bits of a float32 as float16 or bfloat16."""
    return to_float16(value) if float16 else to_bfloat16(value)


@numba.njit(nogil=True, inline="always")
def _spread(value: Any, start: Any, stop: Any, to: Any) -> None:
    for t in range(start, stop, FILL):
        fill(to, t, keepable(numba.float32(value)))


@numba.njit(nogil=True, inline="always")
def expand(grid_row: Any, block: Any, start: Any, count: Any, to: Any) -> None:
    """``to[t] = grid_row[(start + t) // block]`` for t < ``count``, as float32; up to
    ``FILL - 1`` elements behind are overwritten.
    """
    index = start // block
    at = min((index + 1) * block - start, count)
    _spread(grid_row[index], 0, at, to)
    index += 1
    while at + block <= count:
        value = keepable(numba.float32(grid_row[index]))
        t = 0
        while t < block:
            fill(to, at + t, value)
            t += FILL
        at += block
        index += 1
    if at < count:
        _spread(grid_row[index], at, count, to)


@numba.njit(nogil=True, inline="always")
def expand_pairs(grid_row: Any, bk: Any, pair: Any, count: Any, low: Any, high: Any) -> None:
    """The values of the columns ``2 * (pair + t)`` into ``low[t]``, of those behind them into
    ``high[t]``, for t < ``count``; ``high`` is ``low`` where ``bk`` is even.
    """
    if bk % 2 == 0:
        expand(grid_row, bk // 2, pair, count, low)
    else:
        for t in range(count):
            low[t] = keepable(numba.float32(grid_row[2 * (pair + t) // bk]))
            high[t] = keepable(numba.float32(grid_row[(2 * (pair + t) + 1) // bk]))
