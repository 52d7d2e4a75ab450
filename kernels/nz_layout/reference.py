# SPDX-License-Identifier: Apache-2.0
"""The definition of the layout, in torch. It runs on whatever device its argument is on."""

import torch
from torch.nn.functional import pad


def verify() -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def to_nz(matrices: torch.Tensor, c0: int) -> torch.Tensor:
    """See the package: ``[B, M, N]`` to ``[B, ceil(N / c0), 16 * ceil(M / 16), c0]``."""
    padded = pad(matrices, (0, -matrices.shape[2] % c0, 0, -matrices.shape[1] % 16))
    fractals: torch.Tensor = padded.unflatten(2, (-1, c0))
    return fractals.transpose(1, 2).contiguous()
