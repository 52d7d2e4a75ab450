# SPDX-License-Identifier: Apache-2.0
"""Decode 4-bit and 8-bit integer codes with block scales and zero points.

    block_of(i, j) = (i + r0) // bn, (j + c0) // bk
    out[i, j] = T(float32(code[i, j] - zero[block_of(i, j)]) * scale[block_of(i, j)])

Codes are offset binary: ``2**(bits - 1)`` stands for 0 unless a zero point is given. Sources:
compressed-tensors, compressors/pack_quantized/helpers.py (pack_to_int32 adds that offset to codes
and zero points alike) and quantization/lifecycle/forward_helpers.py (_dequantize). Two 4-bit
codes share a byte, the even column of the whole weight in the low four bits. Difference and
product are float32, the difference exact; ``T`` rounds once, to nearest even, so the result is
exact and comparable with ``torch.equal``.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.fp4_dequant import check_arguments

if TYPE_CHECKING:
    import torch


def int_dequant(
    codes: "torch.Tensor",
    scale: "torch.Tensor",
    zero: "torch.Tensor | None",
    out: "torch.Tensor",
    *,
    bits: int,
    block: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
    implementation: str | None = None,
) -> None:
    """Decode ``codes`` into ``out``.

    out: ``[N, K]`` bfloat16, float16 or float32 on the CPU, last dimension contiguous; a slice of
    a larger weight whose first element stands at row and column ``offset`` = (r0, c0) of it.
    codes: ``[N, B]`` uint8, last dimension contiguous. ``bits`` 8: one code each, B = K.
    ``bits`` 4: the bytes that hold these columns, B = ceil((c0 % 2 + K) / 2), and where c0 is odd
    the first code is in the high four bits. scale: ``[R, C]`` float32, contiguous, the whole
    weight's grid. zero: the same grid in uint8, contiguous, or None for ``2**(bits - 1)``
    everywhere. block: (bn, bk). Raises ValueError if the arguments do not fit together.
    """
    import torch

    if bits not in (4, 8):
        raise ValueError(f"bits {bits}: expected 4 or 8")
    check_arguments(codes, scale, out, bits=bits, block=block, offset=offset)
    if zero is not None:
        if zero.dtype != torch.uint8:
            raise ValueError(f"zero of {zero.dtype}: expected uint8")
        if zero.shape != scale.shape or not zero.is_contiguous():
            raise ValueError(
                f"zero {list(zero.shape)}: expected {list(scale.shape)} as scale, contiguous"
            )
    if out.numel() == 0:
        return
    run = choose("int_dequant", implementation, out_dtype=out.dtype)
    run(codes, scale, zero, out, bits, block, offset)
