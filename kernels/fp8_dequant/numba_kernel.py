# SPDX-License-Identifier: Apache-2.0
"""fp8_dequant for the host, compiled by numba.

One thread, without the GIL: the caller divides rows over a thread pool. (numba's own parallel
threads are not fork-safe, and vLLM forks.) The compiled code is cached on disk, so only the first
start on a machine pays for compilation.

Two things make LLVM vectorize it. The bit casts are intrinsics, since numba has none; and the
integer steps are written in 32 bits there, since numba would widen them to 64 and halve the
speed. The inner loops run over one row of one block, so the scale is a constant in them.
"""

import logging
from collections.abc import Callable
from functools import cache
from typing import Any

import numba
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from vllm_ascend_bringup.kernels.fp8_dequant.reference import TORCH_DTYPES

_I8, _I16, _I32 = ir.IntType(8), ir.IntType(16), ir.IntType(32)
_F16, _F32 = ir.HalfType(), ir.FloatType()


def verify(out_dtype: torch.dtype) -> tuple[bool, str]:
    """Writes 16-bit outputs only."""
    return out_dtype in (torch.bfloat16, torch.float16), f"output dtype {out_dtype}"


def fp8_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    out: torch.Tensor,
    block: tuple[int, int],
    offset: tuple[int, int],
    code_format: str,
) -> bool:
    """See the package: codes, out ``[N, K]``, scale ``[R, C]`` float32."""
    if codes.stride(1) != 1 or out.stride(1) != 1:
        raise ValueError("codes and out: expected a contiguous last dimension")
    N, K = codes.shape
    return bool(
        _decode(
            _flat(codes), codes.stride(0), scale.numpy(), _flat(out.view(torch.uint16)),
            out.stride(0), N, K, *block, *offset, _table(code_format), code_format == "e4m3fn",
            out.dtype == torch.float16,
        )
    )  # fmt: skip


def _flat(matrix: torch.Tensor) -> Any:
    """The memory a ``[N, K]`` matrix spans as a contiguous 1-D array: numba then knows that
    neighbours are adjacent, which a strided 2-D array does not tell it.
    """
    span = (matrix.shape[0] - 1) * matrix.stride(0) + matrix.shape[1]
    return matrix.as_strided((span,), (1,), matrix.storage_offset()).numpy()


@cache
def _table(code_format: str) -> Any:
    """The 256 decoded values, float32."""
    every_code = torch.arange(256, dtype=torch.int32).to(torch.uint8)
    return every_code.view(TORCH_DTYPES[code_format]).to(torch.float32).numpy()


@intrinsic
def _e4m3fn(typing_context: Any, code: Any) -> Any:
    """The value of an e4m3fn code, NaN codes aside (they give +-480).

    The four exponent and three mantissa bits move to the top of a float32; adding 120 to the
    exponent field turns bias 7 into 127. Subnormal codes (exponent 0) are built as
    2**-6 * (1 + m / 8) - 2**-6 instead, so no float32 subnormal occurs that a process with
    flush-to-zero would lose.
    """

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        wide = builder.zext(values[0], _I32)
        magnitude = builder.and_(wide, _I32(0x7F))
        shifted = builder.shl(magnitude, _I32(20))
        normal = builder.bitcast(builder.add(shifted, _I32(120 << 23)), _F32)
        above = builder.bitcast(builder.add(shifted, _I32(121 << 23)), _F32)
        subnormal = builder.fsub(above, _F32(2.0**-6))
        is_subnormal = builder.icmp_unsigned("<", magnitude, _I32(8))
        sign = builder.shl(builder.and_(wide, _I32(0x80)), _I32(24))
        value = builder.bitcast(builder.select(is_subnormal, subnormal, normal), _I32)
        return builder.bitcast(builder.or_(value, sign), _F32)

    return types.float32(types.uint8), codegen


@intrinsic
def _to_bfloat16(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 (not NaN) rounded to bfloat16, to nearest even."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        bits = builder.bitcast(values[0], _I32)
        last_kept = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        rounded = builder.add(builder.add(bits, _I32(0x7FFF)), last_kept)
        return builder.trunc(builder.lshr(rounded, _I32(16)), _I16)

    return types.uint16(types.float32), codegen


@intrinsic
def _to_float16(typing_context: Any, value: Any) -> Any:
    """The bits of a float32 rounded to float16, to nearest even (the instruction does that)."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(builder.fptrunc(values[0], _F16), _I16)

    return types.uint16(types.float32), codegen


@intrinsic
def _nan_bit(typing_context: Any, code: Any) -> Any:
    """The top bit is set for the NaN codes 0x7f and 0xff. In 8 bits: 64 codes in a vector."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.add(builder.and_(values[0], _I8(0x7F)), _I8(1))

    return types.uint8(types.uint8), codegen


@intrinsic
def _or(typing_context: Any, left: Any, right: Any) -> Any:
    """Bitwise or in 8 bits; numba's own would widen to 64."""

    def codegen(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.or_(*values)

    return types.uint8(types.uint8, types.uint8), codegen


_BF16_NAN = 0x7FC0
_F16_NAN = 0x7E00


@numba.njit(nogil=True, inline="always")
def _row_bfloat16(codes: Any, out: Any, scale: Any) -> None:
    for j in range(codes.shape[0]):
        out[j] = _to_bfloat16(_e4m3fn(codes[j]) * scale)


@numba.njit(nogil=True, inline="always")
def _row_float16(codes: Any, out: Any, scale: Any) -> None:
    for j in range(codes.shape[0]):
        out[j] = _to_float16(_e4m3fn(codes[j]) * scale)


@numba.njit(nogil=True, inline="always")
def _row_by_table(codes: Any, out: Any, scale: Any, table: Any, to_float16: Any) -> Any:
    """The encodings that hardly occur, through their table of values."""
    nan = False
    for j in range(codes.shape[0]):
        value = table[codes[j]]
        if value != value:
            nan = True
            out[j] = _F16_NAN if to_float16 else _BF16_NAN
        elif to_float16:
            out[j] = _to_float16(value * scale)
        else:
            out[j] = _to_bfloat16(value * scale)
    return nan


@numba.njit(nogil=True, inline="always")
def _keep_nan(codes: Any, out: Any, to_float16: Any) -> Any:
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
            out[j] = _F16_NAN if to_float16 else _BF16_NAN
    return True


def _decode_rows(
    codes: Any, codes_stride: int, scale: Any, out: Any, out_stride: int, N: int, K: int,
    bn: int, bk: int, r0: int, c0: int, table: Any, is_e4m3fn: bool, to_float16: bool,
) -> Any:  # fmt: skip
    nan = False
    for i in range(N):
        grid_row = scale[(i + r0) // bn]
        row = codes[i * codes_stride : i * codes_stride + K]
        to = out[i * out_stride : i * out_stride + K]
        start = 0
        while start < K:
            block = (start + c0) // bk
            stop = min(K, (block + 1) * bk - c0)
            if not is_e4m3fn:
                found = _row_by_table(
                    row[start:stop], to[start:stop], grid_row[block], table, to_float16
                )
                nan = nan or found
            elif to_float16:
                _row_float16(row[start:stop], to[start:stop], grid_row[block])
            else:
                _row_bfloat16(row[start:stop], to[start:stop], grid_row[block])
            start = stop
        if is_e4m3fn and _keep_nan(row, to, to_float16):
            nan = True
    return nan


def _compile(function: Callable[..., Any]) -> Any:
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError as error:
        # A read-only installation without a home folder. Compiling costs each process a second.
        logging.getLogger(__name__).info("set NUMBA_CACHE_DIR for faster starts: %s", error)
        return numba.njit(nogil=True)(function)


_decode = _compile(_decode_rows)
