# SPDX-License-Identifier: Apache-2.0
"""Decode packed fp4 (e2m1) codes with block scales: the arithmetic of MXFP4 and NVFP4.

    out[i, j] = T(decode(code[i, j]) * scale[(i + r0) // bn, (j + c0) // bk])

A code is a sign bit above an index into {0, 0.5, 1, 1.5, 2, 3, 4, 6} (OCP Microscaling Formats
specification v1.0, E2M1); minus zero keeps its sign. Two codes share a byte, the even column of
the whole weight in the low four bits. Both operands and the product are float32; ``T`` rounds
once, to nearest even, so the result is exact and comparable with ``torch.equal``.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose

if TYPE_CHECKING:
    import torch


def fp4_dequant(
    codes: "torch.Tensor",
    scale: "torch.Tensor",
    out: "torch.Tensor",
    *,
    block: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
    scale_table: "torch.Tensor | None" = None,
    implementation: str | None = None,
) -> None:
    """Decode ``codes`` into ``out``.

    out: ``[N, K]`` bfloat16, float16 or float32 on the CPU, last dimension contiguous; a slice of
    a larger weight whose first element stands at row and column ``offset`` = (r0, c0) of it.
    codes: ``[N, B]`` uint8, last dimension contiguous, the bytes that hold these columns:
    B = ceil((c0 % 2 + K) / 2), and where c0 is odd the first code is in the high four bits.
    scale: ``[R, C]``, contiguous, the whole weight's grid; float32, or uint8 codes of scales whose
    values ``scale_table`` (float32 ``[256]``) gives. block: (bn, bk). Raises ValueError if the
    arguments do not fit together.
    """
    check_arguments(codes, scale, out, bits=4, block=block, offset=offset, scale_table=scale_table)
    if out.numel() == 0:
        return
    run = choose("fp4_dequant", implementation, out_dtype=out.dtype)
    run(codes, scale, scale_table, out, block, offset)


def check_arguments(
    codes: "torch.Tensor",
    scale: "torch.Tensor",
    out: "torch.Tensor",
    *,
    bits: int,
    block: tuple[int, int],
    offset: tuple[int, int],
    scale_table: "torch.Tensor | None" = None,
) -> None:
    """Raise ValueError unless the arguments fit; what codes of ``bits`` = 4 or 8 have in common."""
    import torch

    if codes.dtype != torch.uint8:
        raise ValueError(f"codes of {codes.dtype}: expected uint8")
    check_scale(scale, scale_table)
    if out.dtype not in (torch.bfloat16, torch.float16, torch.float32):
        raise ValueError(f"out of {out.dtype}: expected bfloat16, float16 or float32")
    if min(block) < 1 or min(offset) < 0:
        raise ValueError(f"block {block}, offset {offset}: expected positive, not negative")
    if out.dim() != 2:
        raise ValueError(f"out {list(out.shape)}: expected [N, K]")
    N, K = out.shape
    B = K if bits == 8 else (offset[1] % 2 + K + 1) // 2 if K else 0
    if codes.shape != (N, B):
        raise ValueError(
            f"codes {list(codes.shape)} and out {[N, K]} at column {offset[1]}: "
            f"expected codes {[N, B]}"
        )
    # The stride of a dimension of size 1 means nothing, and torch may leave it at any value.
    if (codes.shape[1] > 1 and codes.stride(1) != 1) or (out.shape[1] > 1 and out.stride(1) != 1):
        raise ValueError("codes and out: expected a contiguous last dimension")
    needed = [
        -(-(o + n) // b) if N * K else 0 for o, n, b in zip(offset, (N, K), block, strict=True)
    ]
    if scale.dim() != 2 or scale.shape[0] < needed[0] or scale.shape[1] < needed[1]:
        raise ValueError(f"scale {list(scale.shape)}: expected at least {needed}")
    if not scale.is_contiguous():
        raise ValueError("scale: expected it contiguous")


def check_scale(scale: "torch.Tensor", scale_table: "torch.Tensor | None") -> None:
    """Raise ValueError unless ``scale`` is float32, or uint8 with a table of its values."""
    import torch

    if scale_table is None:
        if scale.dtype != torch.float32:
            raise ValueError(f"scale of {scale.dtype}: expected float32")
        return
    if scale.dtype != torch.uint8:
        raise ValueError(f"scale of {scale.dtype} with a scale_table: expected uint8")
    if scale_table.dtype != torch.float32 or scale_table.shape != (256,):
        found = f"{scale_table.dtype} {list(scale_table.shape)}"
        raise ValueError(f"scale_table of {found}: expected float32 [256]")
