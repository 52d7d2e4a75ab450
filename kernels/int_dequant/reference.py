# SPDX-License-Identifier: Apache-2.0
"""The definition of int_dequant, in torch."""

import torch

from vllm_ascend_bringup.kernels.fp4_dequant.reference import unpack


def verify(out_dtype: torch.dtype) -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


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
    N, K = out.shape
    rows = (torch.arange(N) + offset[0]) // block[0]
    columns = (torch.arange(K) + offset[1]) // block[1]
    if zero is None:
        zero = torch.full(scale.shape, 2 ** (bits - 1), dtype=torch.uint8)
    codes = unpack(codes, K, offset[1]) if bits == 4 else codes
    difference = codes.to(torch.int16) - zero[rows][:, columns]  # uint8 would wrap around
    out.copy_(difference.to(torch.float32) * scale[rows][:, columns])
