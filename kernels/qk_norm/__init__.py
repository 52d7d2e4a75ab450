# SPDX-License-Identifier: Apache-2.0
"""RMS norm over a projection of which a rank has a part: Q or K as a whole, under tensor parallel.

    out[t, n] = T(x[t, n] / sqrt(mean_square[t] + eps) * weight[n])

The mean square is that of the whole projection, so it comes from all ranks; ``square_sum`` is a
rank's share of it. Squares, their sum and the quotient are float32; ``T`` rounds once.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose

if TYPE_CHECKING:
    import torch


def square_sum(x: "torch.Tensor") -> "torch.Tensor":
    """Sum of squares over the last dimension: ``[..., N]`` of any float to ``[..., 1]`` float32."""
    import torch

    return x.to(torch.float32).square().sum(-1, keepdim=True)


def qk_norm(
    x: "torch.Tensor",
    mean_square: "torch.Tensor",
    weight: "torch.Tensor",
    eps: float,
    *,
    implementation: str | None = None,
) -> "torch.Tensor":
    """Normalize this rank's part.

    x: ``[..., N]`` float. mean_square: ``[..., 1]`` float32, over the whole projection. weight:
    ``[N]``, this rank's rows. Returns ``[..., N]`` of ``x``'s dtype. Raises ValueError if the
    arguments do not fit together.
    """
    import torch

    if mean_square.dtype != torch.float32 or mean_square.shape != (*x.shape[:-1], 1):
        found = f"{mean_square.dtype} {list(mean_square.shape)}"
        raise ValueError(f"mean_square {found}: expected float32 {[*x.shape[:-1], 1]}")
    if weight.shape != x.shape[-1:]:
        raise ValueError(f"weight {list(weight.shape)}: expected {list(x.shape[-1:])}")
    if torch.compiler.is_compiling():
        # A compiler sees through torch's operators, not through a choice that imports modules.
        from vllm_ascend_bringup.kernels.qk_norm.reference import qk_norm as run
    else:
        run = choose(
            "qk_norm", implementation, dtype=x.dtype, weight_dtype=weight.dtype,
            device=x.device.type,
        )  # fmt: skip
    normalized: torch.Tensor = run(x, mean_square, weight, eps)
    return normalized
