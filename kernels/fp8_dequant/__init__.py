# SPDX-License-Identifier: Apache-2.0
"""Decode fp8 codes with block scales: the arithmetic of every fp8 checkpoint format.

    out[i, j] = T(decode(codes[i, j]) * scale[(i + r0) // bn, (j + c0) // bk])

Both operands and the product are float32; ``T`` rounds once, to nearest even. This is what
DeepSeek-V3's own inference/kernel.py (weight_dequant_kernel) and transformers compute, so the
result is exact and comparable with ``torch.equal``. NaN codes stay NaN.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.fp4_dequant import check_scale

if TYPE_CHECKING:
    import torch

# Largest finite value and NaN codes (of 256) per encoding. Sources: "FP8 Formats for Deep
# Learning" (e4m3fn, e5m2), the fnuz variant as defined by LLVM's APFloat Float8E4M3FNUZ.
CODE_FORMATS = {"e4m3fn": 448.0, "e4m3fnuz": 240.0, "e5m2": 57344.0}


def fp8_dequant(
    codes: "torch.Tensor",
    scale: "torch.Tensor",
    out: "torch.Tensor",
    *,
    block: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
    code_format: str = "e4m3fn",
    scale_table: "torch.Tensor | None" = None,
    implementation: str | None = None,
) -> bool:
    """Decode ``codes`` into ``out``; returns whether a NaN code was met.

    codes: ``[N, K]`` uint8, last dimension contiguous; a slice of a larger weight whose first
    element stands at row and column ``offset`` = (r0, c0) of it. scale: ``[R, C]``,
    contiguous, the whole weight's grid; float32, or uint8 codes of scales whose values
    ``scale_table`` (float32 ``[256]``) gives. out: ``[N, K]`` bfloat16, float16 or float32, last
    dimension contiguous. block: (bn, bk). All are on one device. Raises ValueError if the
    arguments do not fit together.
    """
    if codes.shape != out.shape or codes.dim() != 2:
        raise ValueError(
            f"codes {list(codes.shape)} and out {list(out.shape)}: expected one [N, K]"
        )
    if code_format not in CODE_FORMATS:
        raise ValueError(f"code format {code_format!r}: expected one of {', '.join(CODE_FORMATS)}")
    _check_types(codes, out)
    if codes.device != out.device or codes.device != scale.device:
        found = f"codes on {codes.device}, scale on {scale.device}, out on {out.device}"
        raise ValueError(f"{found}: expected one device")
    check_scale(scale, scale_table)
    if min(block) < 1 or min(offset) < 0:
        raise ValueError(f"block {block}, offset {offset}: expected positive, not negative")
    if codes.numel() == 0:
        return False
    needed = [
        -(-(start + size) // b) for start, size, b in zip(offset, codes.shape, block, strict=True)
    ]
    if scale.dim() != 2 or scale.shape[0] < needed[0] or scale.shape[1] < needed[1]:
        raise ValueError(f"scale {list(scale.shape)}: expected at least {needed}")
    run = choose(
        "fp8_dequant", implementation, out_dtype=out.dtype, device=codes.device.type,
        code_format=code_format,
    )  # fmt: skip
    return bool(run(codes, scale, scale_table, out, block, offset, code_format))


def _check_types(codes: "torch.Tensor", out: "torch.Tensor") -> None:
    import torch

    if codes.dtype != torch.uint8:
        raise ValueError(f"codes of {codes.dtype}: expected uint8")
    if out.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise ValueError(f"out of {out.dtype}: expected bfloat16, float16 or float32")
