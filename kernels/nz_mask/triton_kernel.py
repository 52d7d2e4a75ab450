# SPDX-License-Identifier: Apache-2.0
"""mask_rows for A2 and A3: every cell is computed and written once, in the order of the layout."""

import torch
import triton
import triton.language as tl

from vllm_ascend_bringup.kernels.triton_intrinsics import programs, runs_on

# Rows of the tiles, each one fractal wide, that fit into on-chip memory twice, so that one is
# computed while another is stored. docs/kernels-npu.md has what each takes.
TILES = (16, 128, 512)
_NO_WINDOW = 2**31 - 1


def verify(dtype: torch.dtype, device: str) -> tuple[bool, str]:
    """Masks of 16-bit floats, where Triton is."""
    if dtype not in (torch.bfloat16, torch.float16):
        return False, f"masks of {dtype}"
    return runs_on(device)


def mask_rows(
    positions: torch.Tensor,
    width: int,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    window: int | None,
    hidden: float,
) -> torch.Tensor:
    """See the package: positions ``[T]`` to ``shape`` (columns of fractals, padded rows, C0)."""
    mask = torch.empty(shape, dtype=dtype, device=positions.device)
    fractals, rows, c0 = shape
    tile = next((tile for tile in TILES if tile >= rows), TILES[-1])
    steps = -(-rows // tile)
    tiles = fractals * steps
    # Rounded here, as torch does it: the kernel only copies it.
    hidden = torch.tensor(hidden, dtype=dtype, device="cpu").item()
    nz_mask_fwd_kernel[(programs(positions.device.type, tiles),)](
        positions.to(torch.int32).contiguous(), mask, len(positions), rows, width, steps, tiles,
        min(window or _NO_WINDOW, _NO_WINDOW), hidden, tile, c0,
    )  # fmt: skip
    return mask


# Integers equal to 1 would be compiled in: another kernel than the one that `make kernels-npu`
# compiles.
@triton.jit(do_not_specialize=["T", "rows", "width", "row_steps", "tiles", "window"])
def nz_mask_fwd_kernel(
    positions_ptr, mask_ptr, T, rows, width, row_steps, tiles, window, hidden,
    TT: tl.constexpr, C0: tl.constexpr,
):  # fmt: skip
    """positions: ``[T]`` int32. mask: ``[ceil(width / C0), rows, C0]``."""
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        fractal, row = tile // row_steps, tile % row_steps * TT
        offsets = tl.arange(0, TT)
        keys = fractal * C0 + tl.arange(0, C0)
        is_query = offsets < T - row
        queries = tl.load(positions_ptr + row + offsets, mask=is_query, other=0)
        distance = queries[:, None] - keys[None, :]
        invisible = (distance < 0) | (distance >= window)
        invisible &= is_query[:, None] & (keys < width)[None, :]
        value = tl.where(invisible, hidden, 0.0)

        mask_at = mask_ptr + (fractal.to(tl.int64) * rows + row) * C0
        mask_at += offsets[:, None] * C0 + tl.arange(0, C0)[None, :]
        tl.store(mask_at, value.to(mask_ptr.dtype.element_ty), mask=(offsets < rows - row)[:, None])
