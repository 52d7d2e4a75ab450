# SPDX-License-Identifier: Apache-2.0
"""The definition of qk_norm, in torch. It runs on whatever device its arguments are on."""

import torch


def verify(dtype: torch.dtype, weight_dtype: torch.dtype, device: str) -> tuple[bool, str]:
    """Runs everywhere."""
    return True, ""


def qk_norm(
    x: torch.Tensor, mean_square: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """See the package: x ``[..., N]``, mean_square ``[..., 1]`` float32, weight ``[N]``."""
    scaled = x.to(torch.float32) * torch.rsqrt(mean_square + eps)
    return (scaled * weight.to(torch.float32)).to(x.dtype)
