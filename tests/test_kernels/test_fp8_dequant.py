# SPDX-License-Identifier: Apache-2.0
"""fp8_dequant: every implementation against a definition written from the format papers."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from triton_interpreter import interpreting

from vllm_ascend_bringup.kernels.fp8_dequant import fp8_dequant, triton_kernel

FORMATS = ("e4m3fn", "e4m3fnuz", "e5m2")
IMPLEMENTATIONS = ("numba", "triton", "reference")
HOST = ("numba", "reference")
DTYPES = (torch.bfloat16, torch.float16)
BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}
# Exponent bits, mantissa bits, exponent bias.
LAYOUTS = {"e4m3fn": (4, 3, 7), "e4m3fnuz": (4, 3, 8), "e5m2": (5, 2, 15)}

# numpy's, where a scale makes infinities.
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")
formats = pytest.mark.parametrize("code_format", FORMATS)
implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
# Triton's interpreter takes a millisecond for each block, and its kernel knows e4m3fn only.
on_host = pytest.mark.parametrize("implementation", HOST)
decoders = pytest.mark.parametrize(
    ("implementation", "code_format"),
    [*((name, code_format) for name in HOST for code_format in FORMATS), ("triton", "e4m3fn")],
)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=("bf16", "fp16"))


@pytest.fixture(scope="module", autouse=True)
def triton_interpreter() -> Iterator[None]:
    with interpreting():
        yield


def value(code: int, code_format: str) -> float:
    """One code, by its bits."""
    exponent_bits, mantissa_bits, bias = LAYOUTS[code_format]
    sign = -1.0 if code & 0x80 else 1.0
    exponent = (code & 0x7F) >> mantissa_bits
    mantissa = code & ((1 << mantissa_bits) - 1)
    if code_format == "e4m3fn" and code & 0x7F == 0x7F:
        return float("nan")
    if code_format == "e4m3fnuz" and code == 0x80:
        return float("nan")
    if code_format == "e5m2" and exponent == (1 << exponent_bits) - 1:
        return float("nan") if mantissa else sign * float("inf")
    if exponent == 0:
        return float(sign * mantissa * 2.0 ** (1 - bias - mantissa_bits))
    return float(sign * (1 + mantissa / (1 << mantissa_bits)) * 2.0 ** (exponent - bias))


@cache
def table(code_format: str) -> np.ndarray:
    return np.array([value(code, code_format) for code in range(256)], dtype=np.float32)


def expected(
    codes: torch.Tensor,
    scale: torch.Tensor,
    dtype: torch.dtype,
    block: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
    code_format: str = "e4m3fn",
) -> torch.Tensor:
    """Every element by its own scale: float32 product, one rounding."""
    N, K = codes.shape
    rows = [(i + offset[0]) // block[0] for i in range(N)]
    columns = [(j + offset[1]) // block[1] for j in range(K)]
    with np.errstate(all="ignore"):
        product = table(code_format)[codes.numpy()] * scale.numpy()[np.ix_(rows, columns)]
    return torch.from_numpy(product).to(dtype)


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Bit for bit, except that any NaN equals any NaN."""
    assert found.dtype == wanted.dtype
    assert torch.equal(found.isnan(), wanted.isnan())
    bits = BITS[wanted.dtype]
    real = ~wanted.isnan()
    assert torch.equal(found.contiguous().view(bits)[real], wanted.contiguous().view(bits)[real])


def random_codes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def every_code() -> torch.Tensor:
    return torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(1, 256)


def grid_for(
    shape: tuple[int, int], block: tuple[int, int], offset: tuple[int, int] = (0, 0), seed: int = 0
) -> torch.Tensor:
    """A scale grid with not two equal scales, just large enough."""
    R, C = (-(-(o + n) // b) for o, n, b in zip(offset, shape, block, strict=True))
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(R, C, generator=generator) * 0.01 + 1e-4


@decoders
@dtypes
@pytest.mark.parametrize(
    "scale",
    [1.0, 0.0123, 448.0, 1e-3, 1e-38, 2.0**-126, 2.0**-127, 2.0**-149, 1e30, 3.4e38, 0.0],
    ids="{:.3g}".format,
)
def test_all_codes(code_format: str, implementation: str, dtype: torch.dtype, scale: float) -> None:
    codes, out = every_code(), torch.empty(1, 256, dtype=dtype)
    grid = torch.tensor([[scale]], dtype=torch.float32)
    found_nan = fp8_dequant(
        codes, grid, out, block=(1, 256), code_format=code_format, implementation=implementation
    )
    assert found_nan
    assert_same(out, expected(codes, grid, dtype, (1, 256), code_format=code_format))


@pytest.mark.parametrize(
    ("code_format", "code", "wanted"),
    [
        ("e4m3fn", 0x00, 0.0),
        ("e4m3fn", 0x01, 2.0**-9),
        ("e4m3fn", 0x07, 7 * 2.0**-9),
        ("e4m3fn", 0x08, 2.0**-6),
        ("e4m3fn", 0x7E, 448.0),
        ("e4m3fn", 0xFE, -448.0),
        ("e4m3fnuz", 0x01, 2.0**-10),
        ("e4m3fnuz", 0x7F, 240.0),
        ("e5m2", 0x01, 2.0**-16),
        ("e5m2", 0x7B, 57344.0),
        ("e5m2", 0x7C, float("inf")),
        ("e5m2", 0xFC, -float("inf")),
    ],
)
@on_host
@dtypes
def test_known_values(
    code_format: str, code: int, wanted: float, implementation: str, dtype: torch.dtype
) -> None:
    out = torch.empty(1, 1, dtype=dtype)
    codes = torch.tensor([[code]], dtype=torch.uint8)
    assert not fp8_dequant(
        codes, torch.ones(1, 1), out, block=(1, 1), code_format=code_format,
        implementation=implementation,
    )  # fmt: skip
    assert out.item() == wanted


@on_host
@dtypes
@pytest.mark.parametrize("code_format", ["e4m3fn", "e5m2"])
def test_sign_of_zero_is_kept(implementation: str, dtype: torch.dtype, code_format: str) -> None:
    codes = torch.tensor([[0x00, 0x80]], dtype=torch.uint8)
    out = torch.empty(1, 2, dtype=dtype)
    fp8_dequant(
        codes, torch.ones(1, 1), out, block=(1, 2), code_format=code_format,
        implementation=implementation,
    )  # fmt: skip
    assert out.view(torch.int16).tolist() == [[0, -(1 << 15)]]


@on_host
@pytest.mark.parametrize(
    ("code_format", "codes"),
    [("e4m3fn", [0x7F, 0xFF]), ("e4m3fnuz", [0x80]), ("e5m2", [0x7D, 0x7E, 0x7F, 0xFD, 0xFF])],
    ids=FORMATS,
)
@dtypes
def test_each_nan_code_stays_nan_and_is_reported(
    implementation: str, code_format: str, codes: list[int], dtype: torch.dtype
) -> None:
    for code in codes:
        row = torch.full((1, 37), 0x11, dtype=torch.uint8)
        row[0, 36] = code
        out = torch.empty(1, 37, dtype=dtype)
        assert fp8_dequant(
            row, torch.ones(1, 1), out, block=(1, 64), code_format=code_format,
            implementation=implementation,
        )  # fmt: skip
        assert out.isnan().nonzero().tolist() == [[0, 36]]


def bits_float(bits: int) -> float:
    return float(np.array(bits, dtype=np.uint32).view(np.float32))


@implementations
@pytest.mark.parametrize(
    ("dtype", "scale", "wanted"),
    [
        pytest.param(torch.bfloat16, bits_float(0x3F807FFF), 0x3F80, id="bf16-below-tie"),
        pytest.param(torch.bfloat16, bits_float(0x3F808000), 0x3F80, id="bf16-tie-to-even-down"),
        pytest.param(torch.bfloat16, bits_float(0x3F808001), 0x3F81, id="bf16-above-tie"),
        pytest.param(torch.bfloat16, bits_float(0x3F818000), 0x3F82, id="bf16-tie-to-even-up"),
        pytest.param(torch.bfloat16, bits_float(0x7F7F7FFF), 0x7F7F, id="bf16-largest"),
        pytest.param(torch.bfloat16, bits_float(0x7F7F8000), 0x7F80, id="bf16-overflow"),
        pytest.param(torch.bfloat16, bits_float(0x00008000), 0x0000, id="bf16-subnormal-tie-down"),
        pytest.param(torch.bfloat16, bits_float(0x00018000), 0x0002, id="bf16-subnormal-tie-up"),
        pytest.param(torch.float16, 1 + 2.0**-11, 0x3C00, id="fp16-tie-to-even-down"),
        pytest.param(torch.float16, 1 + 3 * 2.0**-11, 0x3C02, id="fp16-tie-to-even-up"),
        pytest.param(torch.float16, 1 + 2.0**-11 + 2.0**-23, 0x3C01, id="fp16-above-tie"),
        pytest.param(torch.float16, bits_float(0x477FEFFF), 0x7BFF, id="fp16-65519.996"),
        pytest.param(torch.float16, 65520.0, 0x7C00, id="fp16-overflow"),
        pytest.param(torch.float16, 2.0**-25, 0x0000, id="fp16-subnormal-tie-down"),
        pytest.param(torch.float16, 3 * 2.0**-25, 0x0002, id="fp16-subnormal-tie-up"),
        pytest.param(torch.float16, 2.0**-24, 0x0001, id="fp16-smallest"),
    ],
)
def test_rounds_to_nearest_even(
    implementation: str, dtype: torch.dtype, scale: float, wanted: int
) -> None:
    codes = torch.tensor([[0x38, 0xB8]], dtype=torch.uint8)  # 1 and -1
    out = torch.empty(1, 2, dtype=dtype)
    grid = torch.tensor([[scale]], dtype=torch.float32)
    fp8_dequant(codes, grid, out, block=(1, 2), implementation=implementation)
    assert [bits & 0xFFFF for bits in out.view(torch.int16)[0].tolist()] == [
        wanted, wanted | 0x8000,
    ]  # fmt: skip


@implementations
@dtypes
@pytest.mark.parametrize(
    ("N", "K"),
    [(1, 1), (1, 130), (127, 129), (128, 128), (129, 127), (160, 192), (192, 256), (576, 256)],
    ids=lambda n: str(n),
)
def test_block_grid_with_ragged_tails(
    implementation: str, dtype: torch.dtype, N: int, K: int
) -> None:
    codes, grid = random_codes(N, K), grid_for((N, K), (128, 128))
    out = torch.empty(N, K, dtype=dtype)
    fp8_dequant(codes, grid, out, block=(128, 128), implementation=implementation)
    assert_same(out, expected(codes, grid, dtype, (128, 128)))


@on_host
@dtypes
@pytest.mark.parametrize("bk", [1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 64])
@pytest.mark.parametrize(
    ("N", "K", "r0", "c0"),
    [
        (1, 1, 0, 0), (3, 8, 0, 0), (3, 9, 2, 7), (4, 33, 1, 31), (7, 129, 3, 50), (2, 4096, 1, 0),
        (3, 4097, 2, 0), (3, 4096, 1, 13), (2, 8207, 0, 16),
    ],
)  # fmt: skip
def test_short_blocks(
    implementation: str, dtype: torch.dtype, N: int, K: int, r0: int, c0: int, bk: int
) -> None:
    """numba writes out the scales of such blocks, for 4096 columns at a time."""
    block, offset = (2, bk), (r0, c0)
    codes, grid = random_codes(N, K), grid_for((N, K), block, offset)
    out = torch.empty(N, K, dtype=dtype)
    found_nan = fp8_dequant(
        codes, grid, out, block=block, offset=offset, implementation=implementation
    )
    wanted = expected(codes, grid, dtype, block, offset)
    assert_same(out, wanted)
    assert found_nan == bool(wanted.isnan().any())


@on_host
@dtypes
@pytest.mark.parametrize("at", [0, 8191, 8192, 8999])
def test_nan_codes_in_short_blocks_are_reported(
    implementation: str, dtype: torch.dtype, at: int
) -> None:
    codes, out = torch.full((3, 9000), 0x11, dtype=torch.uint8), torch.empty(3, 9000, dtype=dtype)
    grid = grid_for((3, 9000), (2, 16))
    assert not fp8_dequant(codes, grid, out, block=(2, 16), implementation=implementation)
    codes[1, at] = 0xFF
    assert fp8_dequant(codes, grid, out, block=(2, 16), implementation=implementation)
    assert out.isnan().nonzero().tolist() == [[1, at]]


@decoders
@dtypes
@pytest.mark.parametrize("bk", [16, 256])
@pytest.mark.parametrize(
    "bits", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex
)
def test_scales_that_are_not_finite(
    code_format: str, implementation: str, dtype: torch.dtype, bits: int, bk: int
) -> None:
    stored = np.full((1, 256 // bk), bits, dtype=np.uint32)
    grid, out = torch.from_numpy(stored.view(np.float32)), torch.empty(1, 256, dtype=dtype)
    fp8_dequant(
        every_code(), grid, out, block=(1, bk), code_format=code_format,
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(every_code(), grid, dtype, (1, bk), code_format=code_format))


@formats
@on_host
@dtypes
@pytest.mark.parametrize("bk", [1, 7, 32, 128, 9000])
@pytest.mark.parametrize(("K", "c0"), [(1, 1), (129, 15), (8193, 1)])
def test_scales_as_bytes_with_a_table(
    code_format: str, implementation: str, dtype: torch.dtype, K: int, c0: int, bk: int
) -> None:
    block, offset = (2, bk), (3, c0)
    codes, scales = random_codes(5, K), torch.rand(256) + 0.01
    bytes_ = random_codes(*grid_for((5, K), block, offset).shape, seed=1)
    out = torch.empty(5, K, dtype=dtype)
    fp8_dequant(
        codes, bytes_, out, block=block, offset=offset, code_format=code_format,
        scale_table=scales, implementation=implementation,
    )  # fmt: skip
    wanted = expected(codes, scales[bytes_.long()], dtype, block, offset, code_format)
    assert_same(out, wanted)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 40), st.integers(1, 90)),
    block=st.tuples(st.integers(1, 33), st.integers(1, 65)),
    offset=st.tuples(st.integers(0, 70), st.integers(0, 140)),
    margin=st.tuples(*[st.integers(0, 3)] * 4),
    code_format=st.sampled_from(FORMATS),
    dtype=st.sampled_from(DTYPES),
    implementation=st.sampled_from(HOST),
    seed=st.integers(0, 9),
)
def test_any_slice_of_any_weight_into_any_slice(
    shape: tuple[int, int],
    block: tuple[int, int],
    offset: tuple[int, int],
    margin: tuple[int, int, int, int],
    code_format: str,
    dtype: torch.dtype,
    implementation: str,
    seed: int,
) -> None:
    N, K = shape
    top, left, bottom, right = margin
    codes = random_codes(top + N + bottom, left + K + right, seed=seed)[top : top + N, left:][:, :K]
    whole = torch.full((bottom + N + top, right + K + left), 7.0, dtype=dtype)
    out = whole[bottom : bottom + N, right : right + K]
    grid = grid_for(shape, block, offset, seed)
    fp8_dequant(
        codes, grid, out, block=block, offset=offset, code_format=code_format,
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(codes, grid, dtype, block, offset, code_format))
    out.fill_(7.0)
    assert bool((whole == 7.0).all()), "wrote outside of out"


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 200), st.integers(1, 300)),
    block=st.sampled_from([(128, 128), (64, 200), (33, 70), (9, 300), (1000, 2000)]),
    offset=st.tuples(st.integers(0, 300), st.integers(0, 300)),
    margin=st.tuples(*[st.integers(0, 3)] * 4),
    dtype=st.sampled_from(DTYPES),
    codes_of_scales=st.booleans(),
    tile=st.sampled_from([None, (16, 32)]),
    seed=st.integers(0, 9),
)
def test_triton_any_slice_of_any_weight(
    shape: tuple[int, int],
    block: tuple[int, int],
    offset: tuple[int, int],
    margin: tuple[int, int, int, int],
    dtype: torch.dtype,
    codes_of_scales: bool,
    tile: "tuple[int, int] | None",
    seed: int,
) -> None:
    """``tile``: another than the launcher's, so that small blocks have several."""
    N, K = shape
    top, left, bottom, right = margin
    codes = random_codes(top + N + bottom, left + K + right, seed=seed)[top : top + N, left:][:, :K]
    if seed % 2:
        codes &= 0x7E  # no NaN
    whole = torch.full((bottom + N + top, right + K + left), 7.0, dtype=dtype)
    out = whole[bottom : bottom + N, right : right + K]
    grid, table_ = grid_for(shape, block, offset, seed), None
    scales = grid
    if codes_of_scales:
        table_ = torch.rand(256, generator=torch.Generator().manual_seed(seed)) + 0.01
        grid = random_codes(*grid.shape, seed=seed)
        scales = table_[grid.long()]
    with pytest.MonkeyPatch.context() as patch:
        if tile:
            patch.setattr(triton_kernel, "TILES", (tile,))
        found_nan = fp8_dequant(
            codes, grid, out, block=block, offset=offset, scale_table=table_,
            implementation="triton",
        )  # fmt: skip
    wanted = expected(codes, scales, dtype, block, offset)
    assert_same(out, wanted)
    assert found_nan == bool(wanted.isnan().any())
    out.fill_(7.0)
    assert bool((whole == 7.0).all()), "wrote outside of out"


@dtypes
@pytest.mark.parametrize("K", [1, 2048, 2049, 8193])
def test_triton_one_scale_for_each_row(dtype: torch.dtype, K: int) -> None:
    codes, grid = random_codes(3, K + 1)[:, 1:], grid_for((3, K), (1, K + 5), (2, 5))
    out = torch.empty(3, K, dtype=dtype)
    fp8_dequant(codes, grid, out, block=(1, K + 5), offset=(2, 5), implementation="triton")
    assert_same(out, expected(codes, grid, dtype, (1, K + 5), (2, 5)))


@pytest.mark.parametrize(
    ("code_format", "dtype"),
    [("e5m2", torch.bfloat16), ("e4m3fnuz", torch.float16), ("e4m3fn", torch.float32)],
    ids=str,
)
def test_what_triton_does_not_decode(code_format: str, dtype: torch.dtype) -> None:
    codes, out = random_codes(2, 2), torch.empty(2, 2, dtype=dtype)
    with pytest.raises(RuntimeError, match=f"triton cannot run: {code_format} to {dtype}"):
        fp8_dequant(
            codes, torch.ones(1, 1), out, block=(2, 2), code_format=code_format,
            implementation="triton",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "columns", "tile"),
    [
        (128, 128, (64, 128)), (64, 128, (64, 128)), (1, 7168, (1, 8192)), (1, 2048, (1, 2048)),
        (1, 2049, (1, 8192)), (4096, 7168, (8, 1024)), (512, 2048, (4, 2048)), (1, 1, (1, 2048)),
        (4096, 8192, (1, 8192)), (128, 129, (64, 128)), (20, 513, (8, 1024)),
    ],
)  # fmt: skip
def test_tile_of_a_block(rows: int, columns: int, tile: tuple[int, int]) -> None:
    assert triton_kernel._tile(rows, columns) == tile


@formats
def test_float32_output_comes_from_the_reference(code_format: str) -> None:
    codes, grid = random_codes(5, 70), grid_for((5, 70), (4, 64))
    out = torch.empty(5, 70)
    fp8_dequant(codes, grid, out, block=(4, 64), code_format=code_format)
    assert_same(out, expected(codes, grid, torch.float32, (4, 64), code_format=code_format))


def test_numba_for_float32_is_refused_not_replaced() -> None:
    codes, grid, out = random_codes(2, 2), torch.ones(1, 1), torch.empty(2, 2)
    with pytest.raises(RuntimeError, match=r"implementation numba cannot run: .*float32"):
        fp8_dequant(codes, grid, out, block=(2, 2), implementation="numba")


def test_unknown_implementation_is_a_key_error() -> None:
    codes, grid, out = random_codes(2, 2), torch.ones(1, 1), torch.empty(2, 2)
    with pytest.raises(KeyError, match="cuda"):
        fp8_dequant(codes, grid, out, block=(2, 2), implementation="cuda")


@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_empty_slices_are_fine(shape: tuple[int, int]) -> None:
    codes = torch.empty(shape, dtype=torch.uint8)
    out = torch.empty(shape, dtype=torch.bfloat16)
    assert not fp8_dequant(codes, torch.ones(1, 1), out, block=(4, 4), offset=(9, 9))


CODES, OUT = torch.zeros(4, 6, dtype=torch.uint8), torch.zeros(4, 6, dtype=torch.bfloat16)


@implementations
@pytest.mark.parametrize(
    ("codes", "scale", "out", "options", "message"),
    [
        pytest.param(CODES, torch.ones(1, 1), OUT[:3], {}, "codes .* and out", id="shapes-differ"),
        pytest.param(CODES[0], torch.ones(1, 1), OUT[0], {}, "codes .* and out", id="one-dim"),
        pytest.param(CODES[None], torch.ones(1, 1), OUT[None], {}, "codes .*out", id="three-dim"),
        pytest.param(CODES, torch.ones(1, 1), OUT, {"code_format": "e3m4"}, "e4m3fn", id="format"),
        pytest.param(CODES, torch.ones(1), OUT, {}, r"expected at least \[1, 1\]", id="scale-rank"),
        pytest.param(CODES, torch.ones(1, 1), OUT, {"offset": (5, 0)}, r"\[2, 1\]", id="few-rows"),
        pytest.param(CODES, torch.ones(1, 1), OUT, {"offset": (0, 3)}, r"\[1, 2\]", id="few-cols"),
        pytest.param(CODES, torch.ones(1, 1), OUT, {"block": (0, 8)}, "block", id="block-zero"),
        pytest.param(
            CODES, torch.ones(1, 1), OUT, {"block": (8, -8)}, "block", id="block-negative"
        ),
        pytest.param(CODES, torch.ones(1, 1), OUT, {"offset": (-1, 0)}, "offset", id="offset"),
        pytest.param(CODES.char(), torch.ones(1, 1), OUT, {}, "uint8", id="codes-dtype"),
        pytest.param(CODES, torch.ones(1, 1).double(), OUT, {}, "float32", id="scale-dtype"),
        pytest.param(CODES, torch.ones(1, 1), OUT.int(), {}, "bfloat16", id="out-dtype"),
    ],
)
def test_arguments_that_do_not_fit_raise_value_error(
    codes: torch.Tensor,
    scale: torch.Tensor,
    out: torch.Tensor,
    options: "dict[str, object]",
    message: str,
    implementation: str,
) -> None:
    arguments: dict[str, object] = {"block": (8, 8), "implementation": implementation, **options}
    with pytest.raises(ValueError, match=message):
        fp8_dequant(codes, scale, out, **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("turned", ["codes", "out"])
def test_numba_refuses_strided_rows(turned: str) -> None:
    codes, out = torch.zeros(4, 4, dtype=torch.uint8), torch.zeros(4, 4, dtype=torch.bfloat16)
    if turned == "codes":
        codes = codes.t()
    else:
        out = out.t()
    with pytest.raises(ValueError, match="contiguous last dimension"):
        fp8_dequant(codes, torch.ones(1, 1), out, block=(4, 4), implementation="numba")


@pytest.fixture
def flush_denormal() -> Iterator[None]:
    """Float32 subnormals read and written as zero, as some processes set it."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@decoders
@dtypes
@pytest.mark.usefixtures("flush_denormal")
def test_normal_products_survive_flush_to_zero(
    code_format: str, implementation: str, dtype: torch.dtype
) -> None:
    codes, grid = every_code(), torch.tensor([[1.0]])
    out = torch.empty(1, 256, dtype=dtype)
    assert (torch.tensor([2.0**-127]) * 1).item() == 0.0, "flushing is not on"
    fp8_dequant(
        codes, grid, out, block=(1, 256), code_format=code_format, implementation=implementation
    )
    torch.set_flush_denormal(False)
    assert_same(out, expected(codes, grid, dtype, (1, 256), code_format=code_format))


@dtypes
def test_many_threads_at_once(dtype: torch.dtype) -> None:
    N, K, block = 389, 515, (128, 128)
    codes, grid = random_codes(N, K), grid_for((N, K), block)
    out = torch.empty(N, K, dtype=dtype)

    def task(start: int) -> bool:
        rows = slice(start, min(N, start + 7))
        return fp8_dequant(codes[rows], grid, out[rows], block=block, offset=(start, 0))

    with ThreadPoolExecutor(8) as pool:
        nan = list(pool.map(task, range(0, N, 7)))
    wanted = expected(codes, grid, dtype, block)
    assert_same(out, wanted)
    assert nan == [bool(wanted[s : s + 7].isnan().any()) for s in range(0, N, 7)]


_ONCE = """
import torch
from vllm_ascend_bringup.kernels.fp8_dequant import fp8_dequant, numba_kernel
codes = torch.tensor([[0x38, 0xB8]], dtype=torch.uint8)
out = torch.empty(1, 2, dtype=torch.bfloat16)
for bk in (2, 128):
    fp8_dequant(codes, torch.full((1, 1), 3.0), out, block=(1, bk), implementation="numba")
    assert out.tolist() == [[3.0, -3.0]], out
stats = [function.stats for function in (numba_kernel._decode_short, numba_kernel._decode)]
print(*(sum(found.cache_hits.values()) for found in stats))
print(*(sum(found.cache_misses.values()) for found in stats))
"""


def test_compiled_code_is_cached_on_disk(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}

    def run() -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", _ONCE], env=environment, capture_output=True, text=True,
            check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert run() == ["0", "0", "1", "1"]
    assert list(tmp_path.rglob("*.nbc"))
    assert run() == ["1", "1", "0", "0"]


def _decode_in_child(
    codes: torch.Tensor, grid: torch.Tensor, out: torch.Tensor, to: Connection
) -> None:
    with ThreadPoolExecutor(2) as pool:
        halves = [(slice(0, 2), (0, 0)), (slice(2, 4), (2, 0))]
        for future in [
            pool.submit(
                fp8_dequant, codes[rows], grid, out[rows], block=(2, 2), offset=offset,
                implementation="numba",
            )
            for rows, offset in halves
        ]:  # fmt: skip
            future.result()
    to.send(out.view(torch.int16).tolist())


def test_works_in_a_fork_after_use_in_the_parent() -> None:
    codes, grid = random_codes(4, 6) & 0x7E, grid_for((4, 6), (2, 2))
    wanted = torch.empty(4, 6, dtype=torch.bfloat16)
    with ThreadPoolExecutor(2) as pool:
        pool.submit(fp8_dequant, codes, grid, wanted, block=(2, 2), implementation="numba").result()
    assert_same(wanted, expected(codes, grid, torch.bfloat16, (2, 2)))
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()
    out = torch.empty(4, 6, dtype=torch.bfloat16)
    child = fork.Process(target=_decode_in_child, args=(codes, grid, out, theirs))
    child.start()
    try:
        assert ours.poll(60), "the forked child hangs"
        assert ours.recv() == wanted.view(torch.int16).tolist()
    finally:
        child.terminate()
        child.join()
