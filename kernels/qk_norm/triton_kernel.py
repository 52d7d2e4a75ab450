# SPDX-License-Identifier: Apache-2.0
"""qk_norm for A2 and A3: one pass over the projection instead of one for each operation.

With a square root and a division that round correctly, the factor of a row is off by at most two
and a half roundings of float32, and an element by four and a half before its own rounding.
"""

import torch
import triton
import triton.language as tl

from vllm_ascend_bringup.kernels.triton_intrinsics import bfloat16_bits, programs, runs_on

# Tokens and columns of the tiles that fit into on-chip memory twice, so that one is loaded while
# another is computed. docs/kernels-npu.md has what each takes.
TILES = ((64, 128), (32, 256), (16, 512), (8, 1024), (4, 2048), (2, 4096), (1, 8192))
_DTYPES = (torch.bfloat16, torch.float16, torch.float32)


def verify(dtype: torch.dtype, weight_dtype: torch.dtype, device: str) -> tuple[bool, str]:
    """Where Triton is; a weight of the activations' dtype."""
    if dtype not in _DTYPES or weight_dtype != dtype:
        return False, f"{dtype} with a weight of {weight_dtype}"
    return runs_on(device)


def qk_norm(
    x: torch.Tensor, mean_square: torch.Tensor, weight: torch.Tensor, eps: float
) -> torch.Tensor:
    """See the package: x ``[..., N]``, mean_square ``[..., 1]`` float32, weight ``[N]``."""
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.numel() == 0:
        return out
    rows = x.reshape(-1, x.shape[-1])  # of a projection of Q, K and V together: not a copy
    if rows.stride(1) != 1:
        rows = rows.contiguous()
    tile = _tile(rows.shape[1])
    steps = -(-rows.shape[1] // tile[1])
    tiles = -(-rows.shape[0] // tile[0]) * steps
    qk_norm_fwd_kernel[(programs(x.device.type, tiles),)](
        rows, mean_square.contiguous(), weight.contiguous(),
        out.view(torch.int16) if out.dtype == torch.bfloat16 else out,
        *rows.shape, rows.stride(0), steps, tiles, eps, *tile,
    )  # fmt: skip
    return out


def _tile(columns: int) -> tuple[int, int]:
    """The narrowest that holds a row, or else the widest."""
    return next((tile for tile in TILES if tile[1] >= columns), TILES[-1])


# Integers equal to 1 would be compiled in: another kernel than the one that `make kernels-npu`
# compiles.
@triton.jit(do_not_specialize=["T", "N", "x_stride", "column_steps", "tiles"])
def qk_norm_fwd_kernel(
    x_ptr, mean_square_ptr, weight_ptr, out_ptr, T, N, x_stride, column_steps, tiles, eps,
    TT: tl.constexpr, TN: tl.constexpr,
):  # fmt: skip
    """x, out: ``[T, N]`` by rows, those of out without gaps; bfloat16 goes out as int16.

    mean_square: ``[T]`` float32. weight: ``[N]``.
    """
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        row, column = tile // column_steps * TT, tile % column_steps * TN
        rows, columns = tl.arange(0, TT), tl.arange(0, TN)
        in_rows, in_columns = rows < T - row, columns < N - column
        inside = in_rows[:, None] & in_columns[None, :]

        x_at = x_ptr + row.to(tl.int64) * x_stride + column
        x_at += rows[:, None] * x_stride + columns[None, :]
        x = tl.load(x_at, mask=inside, other=0.0).to(tl.float32)
        mean_square = tl.load(mean_square_ptr + row + rows, mask=in_rows, other=1.0)
        weight = tl.load(weight_ptr + column + columns, mask=in_columns, other=0.0)
        # Not rsqrt: that of the vector unit is an approximation.
        factor = 1.0 / tl.sqrt(mean_square + eps)
        value = x * factor[:, None] * weight.to(tl.float32)[None, :]

        out_at = out_ptr + row.to(tl.int64) * N + column
        out_at += rows[:, None] * N + columns[None, :]
        if out_ptr.dtype.element_ty == tl.int16:
            tl.store(out_at, bfloat16_bits(value), mask=inside)
        else:
            tl.store(out_at, value.to(out_ptr.dtype.element_ty), mask=inside)
