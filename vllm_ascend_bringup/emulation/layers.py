# SPDX-License-Identifier: Apache-2.0
"""Norms and activations. Computed in float32 and rounded once; the NPU may round on the way."""

import torch

from vllm_ascend_bringup.kernels.qk_norm import qk_norm


def rms_norm(
    input: torch.Tensor, gamma: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor]:
    """``input / rms * gamma`` over the last dimension, and ``1 / rms`` float32 ``[..., 1]``.

    input: ``[..., N]``, gamma: ``[N]``, of the same dtype or float32. Raises ValueError if they do
    not fit together.
    """
    if gamma.shape != input.shape[-1:] or gamma.dtype not in (input.dtype, torch.float32):
        raise ValueError(
            f"gamma {gamma.dtype} {list(gamma.shape)}: expected {input.dtype} "
            f"{list(input.shape[-1:])}, as input's last dimension"
        )
    mean_square = input.float().square().mean(-1, keepdim=True)
    return qk_norm(input, mean_square, gamma, epsilon), torch.rsqrt(mean_square + epsilon)


def add_rms_norm(
    x1: torch.Tensor, x2: torch.Tensor, gamma: torch.Tensor, epsilon: float = 1e-6
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """``rms_norm`` of ``x1 + x2``, and that sum, which is rounded before it is normalized."""
    if x1.shape != x2.shape or x1.dtype != x2.dtype:
        found = f"x2 {x2.dtype} {list(x2.shape)}"
        raise ValueError(f"{found}: expected {x1.dtype} {list(x1.shape)}, as x1")
    total = x1 + x2
    return *rms_norm(total, gamma, epsilon), total


def swiglu(input: torch.Tensor, dim: int = -1) -> torch.Tensor:
    """``silu(a) * b`` of the two halves of ``input`` along ``dim``. Raises ValueError if odd."""
    if input.shape[dim] % 2:
        raise ValueError(f"dimension {dim} of {list(input.shape)}: expected an even size")
    gate, up = input.float().chunk(2, dim)
    return (torch.nn.functional.silu(gate) * up).to(input.dtype)
