# SPDX-License-Identifier: Apache-2.0
"""Norms, activations, a product. Computed in float32 and rounded once; the NPU may round on the
way.
"""

import torch

from vllm_ascend_bringup.emulation.attention_checks import check_plain_chip, refuse
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


def transpose_batchmatmul(
    input: torch.Tensor,
    weight: torch.Tensor,
    *,
    perm_x1: list[int] | None = None,
    perm_x2: list[int] | None = None,
    perm_y: list[int] | None = None,
    **others: object,
) -> torch.Tensor:
    """``[M, B, N]``, of input ``[B, M, K]``, or ``[M, B, K]`` with perm_x1 1, 0, 2, and weight
    ``[B, K, N]``. Raises ValueError for orders and sizes that torch_npu's documentation excludes.
    """
    check_plain_chip()
    refuse(*others)
    order = perm_x1 or [0, 1, 2]
    if order not in ([0, 1, 2], [1, 0, 2]) or perm_x2 not in (None, [0, 1, 2]):
        raise ValueError(
            f"perm_x1 {perm_x1}, perm_x2 {perm_x2}: expected 0, 1, 2, or 1, 0, 2 for x1"
        )
    if perm_y not in (None, [1, 0, 2]):
        raise ValueError(f"perm_y {perm_y}: expected 1, 0, 2")
    x = input.permute(order)
    if x.shape[::2] != weight.shape[:2] or any(size % 16 for size in weight.shape[1:]):
        raise ValueError(
            f"input {list(x.shape)}, weight {list(weight.shape)}: expected [B, M, K], [B, K, N], K "
            "and N multiples of 16"
        )
    return (x.float() @ weight.float()).to(input.dtype).transpose(0, 1).contiguous()
