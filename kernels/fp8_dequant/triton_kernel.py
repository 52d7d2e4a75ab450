# SPDX-License-Identifier: Apache-2.0
"""fp8_dequant for A2 and A3, whose vector units have no fp8 type: arithmetic on the bytes.

A tile lies within one block, so its scale is one number. Decoding takes neither a comparison, a
table nor a float32 subnormal, which vector units may flush to zero.
"""

import torch
import triton
import triton.language as tl

from vllm_ascend_bringup.kernels.triton_intrinsics import bfloat16_bits, programs, runs_on

# Rows and columns of the tiles that fit into on-chip memory twice, so that one is loaded while
# another is computed. docs/kernels-npu.md has what each takes.
TILES = ((64, 128), (16, 512), (8, 1024), (4, 2048), (1, 8192), (1, 2048))
_NAN_MAGNITUDE = 127


def verify(out_dtype: torch.dtype, device: str, code_format: str) -> tuple[bool, str]:
    """e4m3fn to a 16-bit type, where Triton is."""
    if code_format != "e4m3fn" or out_dtype not in (torch.bfloat16, torch.float16):
        return False, f"{code_format} to {out_dtype}"
    return runs_on(device)


def fp8_dequant(
    codes: torch.Tensor,
    scale: torch.Tensor,
    scale_table: torch.Tensor | None,
    out: torch.Tensor,
    block: tuple[int, int],
    offset: tuple[int, int],
    code_format: str,
) -> bool:
    """See the package: codes, out ``[N, K]``, scale ``[R, C]``."""
    # The stride of a dimension of size 1 means nothing, and torch may leave it at any value.
    if (codes.shape[1] > 1 and codes.stride(1) != 1) or (out.shape[1] > 1 and out.stride(1) != 1):
        raise ValueError("codes and out: expected a contiguous last dimension")
    if scale_table is not None:
        scale = scale_table[scale.to(torch.int64)]
    rows, columns = (min(size, b) for size, b in zip(codes.shape, block, strict=True))
    tile = _tile(rows, columns)
    steps = _steps(tile, rows, columns)
    blocks = [
        (start + size - 1) // b - start // b + 1
        for start, size, b in zip(offset, codes.shape, block, strict=True)
    ]
    tiles_across = blocks[1] * steps[1]
    tiles = blocks[0] * steps[0] * tiles_across
    grid = programs(codes.device.type, tiles)
    largest = torch.empty(grid, dtype=torch.int32, device=codes.device)
    fp8_dequant_fwd_kernel[(grid,)](
        codes, scale, out.view(torch.int16) if out.dtype == torch.bfloat16 else out, largest,
        *codes.shape, codes.stride(0), out.stride(0), scale.shape[1], *block, *offset,
        *steps, tiles_across, tiles, *tile,
    )  # fmt: skip
    return bool((largest == _NAN_MAGNITUDE).any())


def _tile(rows: int, columns: int) -> tuple[int, int]:
    """Of the tiles that cover a block in the fewest steps the smallest, then the widest."""

    def cost(tile: tuple[int, int]) -> tuple[int, int, int]:
        down, across = _steps(tile, rows, columns)
        return down * across, tile[0] * tile[1], -tile[1]

    return min(TILES, key=cost)


def _steps(tile: tuple[int, int], rows: int, columns: int) -> tuple[int, int]:
    return -(-rows // tile[0]), -(-columns // tile[1])


# Integers equal to 1 would be compiled in: another kernel than the one that `make kernels-npu`
# compiles.
@triton.jit(
    do_not_specialize=[
        "N", "K", "codes_stride", "out_stride", "C", "bn", "bk", "r0", "c0", "row_steps",
        "column_steps", "tiles_across", "tiles",
    ]
)  # fmt: skip
def fp8_dequant_fwd_kernel(
    codes_ptr, scale_ptr, out_ptr, largest_ptr,
    N, K, codes_stride, out_stride, C, bn, bk, r0, c0, row_steps, column_steps, tiles_across, tiles,
    TN: tl.constexpr, TK: tl.constexpr,
):  # fmt: skip
    """codes, out: ``[N, K]`` by rows; out: float16, or bfloat16 as int16. scale: ``[R, C]``.

    A block, or what there is of it, has row_steps by column_steps tiles. largest: by program, the
    largest magnitude of a code.
    """
    largest = 0
    for tile in range(tl.program_id(0), tiles, tl.num_programs(0)):
        down, across = tile // tiles_across, tile % tiles_across
        grid_row, grid_column = r0 // bn + down // row_steps, c0 // bk + across // column_steps
        row = tl.maximum(grid_row * bn - r0, 0) + down % row_steps * TN
        column = tl.maximum(grid_column * bk - c0, 0) + across % column_steps * TK
        rows, columns = tl.arange(0, TN), tl.arange(0, TK)
        in_rows = rows < tl.minimum((grid_row + 1) * bn - r0, N) - row
        in_columns = columns < tl.minimum((grid_column + 1) * bk - c0, K) - column
        inside = in_rows[:, None] & in_columns[None, :]

        codes_at = codes_ptr + row.to(tl.int64) * codes_stride + column
        codes_at += rows[:, None] * codes_stride + columns[None, :]
        code = tl.load(codes_at, mask=inside, other=0).to(tl.int32)
        # 2**(exponent - 9) times four bits of mantissa, the first of them implied; exponent 0
        # is that of subnormal codes too, and implies none.
        sign = code >> 7
        magnitude = code - (sign << 7)
        exponent = tl.maximum((magnitude >> 3) - 1, 0)
        mantissa = magnitude - (exponent << 3)
        # The code for NaN has exponent 14; 0x3DC00000 more makes the bits of a NaN of it.
        power = (sign << 31) + ((exponent + 118) << 23) + ((magnitude + 1) >> 7) * 0x3DC00000
        value = mantissa.to(tl.float32) * power.to(tl.float32, bitcast=True)

        scale = tl.load(scale_ptr + grid_row * C + grid_column)
        # A NaN that bfloat16_bits keeps.
        value *= tl.where(scale == scale, scale, float("nan"))
        out_at = out_ptr + row.to(tl.int64) * out_stride + column
        out_at += rows[:, None] * out_stride + columns[None, :]
        if out_ptr.dtype.element_ty == tl.int16:
            tl.store(out_at, bfloat16_bits(value), mask=inside)
        else:
            tl.store(out_at, value.to(tl.float16), mask=inside)
        largest = tl.maximum(largest, tl.max(tl.max(magnitude, 1), 0))
    tl.store(largest_ptr + tl.program_id(0), largest)
