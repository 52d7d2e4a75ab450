# SPDX-License-Identifier: Apache-2.0
"""The definition of fp4_dequant, in torch."""

import torch

_MAGNITUDES = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
VALUES = torch.tensor(_MAGNITUDES + tuple(-value for value in _MAGNITUDES))


def verify(out_dtype: torch.dtype) -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def fp4_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    scale_table: torch.Tensor | None,
    out: torch.Tensor,
    block: tuple[int, int],
    offset: tuple[int, int],
) -> None:
    """See the package: codes ``[N, B]`` uint8, scale ``[R, C]``, out ``[N, K]``."""
    if scale_table is not None:
        scale = scale_table[scale.to(torch.int64)]
    N, K = out.shape
    rows = (torch.arange(N) + offset[0]) // block[0]
    columns = (torch.arange(K) + offset[1]) // block[1]
    values = VALUES[unpack(codes, K, offset[1]).to(torch.int64)]
    out.copy_(values * scale[rows][:, columns])


def unpack(codes: torch.Tensor, K: int, c0: int) -> torch.Tensor:
    """``[N, K]`` uint8, one code each, from ``[N, B]`` bytes whose first holds column ``c0``."""
    both = torch.stack((codes & 0x0F, codes >> 4), dim=-1).flatten(1)
    return both[:, c0 % 2 : c0 % 2 + K]
