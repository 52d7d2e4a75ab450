# SPDX-License-Identifier: Apache-2.0
"""fp4_dequant: numba and the reference against a definition written from the OCP MX paper."""

import math
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend_bringup.kernels.fp4_dequant import fp4_dequant

IMPLEMENTATIONS = ("numba", "reference")
DTYPES = (torch.bfloat16, torch.float16)
BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}

implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=("bf16", "fp16"))


def value(code: int) -> float:
    """One e2m1 code, by its bits: sign, two exponent bits (bias 1), one mantissa bit."""
    exponent, mantissa = (code >> 1) & 3, code & 1
    magnitude = 2.0 ** (exponent - 1) * (1 + mantissa / 2) if exponent else mantissa / 2
    return math.copysign(magnitude, -1.0 if code & 8 else 1.0)


VALUES = [np.float32(value(code)) for code in range(16)]


def expected(
    codes: torch.Tensor,
    scale: torch.Tensor,
    K: int,
    dtype: torch.dtype,
    block: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """Every element by its own code and scale: float32 product, one rounding."""
    packed, grid = codes.tolist(), scale.numpy()
    r0, c0 = offset
    product = np.empty((len(packed), K), dtype=np.float32)
    with np.errstate(all="ignore"):
        for i, row in enumerate(packed):
            for j in range(K):
                code = row[(c0 % 2 + j) // 2] >> 4 * ((c0 + j) % 2) & 15
                at = (i + r0) // block[0], (j + c0) // block[1]
                product[i, j] = VALUES[code] * grid[at]
    return torch.from_numpy(product).to(dtype)


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Bit for bit, except that any NaN equals any NaN."""
    assert found.dtype == wanted.dtype
    assert torch.equal(found.isnan(), wanted.isnan())
    bits = BITS[wanted.dtype]
    real = ~wanted.isnan()
    assert torch.equal(found.contiguous().view(bits)[real], wanted.contiguous().view(bits)[real])


def packed_width(K: int, c0: int = 0) -> int:
    return (c0 % 2 + K + 1) // 2


def random_codes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def grid_for(
    shape: tuple[int, int], block: tuple[int, int], offset: tuple[int, int] = (0, 0), seed: int = 0
) -> torch.Tensor:
    """A scale grid with no two equal scales, just large enough."""
    R, C = (-(-(o + n) // b) for o, n, b in zip(offset, shape, block, strict=True))
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(R, C, generator=generator) * 0.01 + 1e-4


def bits_float(bits: int) -> float:
    return float(np.array(bits, dtype=np.uint32).view(np.float32))


@implementations
@dtypes
@pytest.mark.parametrize("c0", [0, 1], ids=("low-first", "high-first"))
def test_known_values(implementation: str, dtype: torch.dtype, c0: int) -> None:
    codes = torch.tensor([[0x10, 0x32, 0x54, 0x76, 0x98, 0xBA, 0xDC, 0xFE]], dtype=torch.uint8)
    values = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    wanted = (values + [-magnitude for magnitude in values])[c0:]
    out = torch.empty(1, 16 - c0, dtype=dtype)
    fp4_dequant(
        codes, torch.ones(1, 1), out, block=(1, 16), offset=(0, c0), implementation=implementation
    )
    assert out[0].tolist() == wanted
    assert [math.copysign(1, found) for found in out[0].tolist()] == [
        math.copysign(1, value) for value in wanted
    ]


@implementations
@dtypes
@pytest.mark.parametrize(
    "scale",
    [1.0, -0.0123, 448.0, 2.0**-126, 2.0**-127, 2.0**-149, 12000.0, 1e30, 3.4e38, 0.0, -0.0],
    ids="{:.3g}".format,
)
def test_every_byte(implementation: str, dtype: torch.dtype, scale: float) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(1, 256)
    grid, out = torch.full((1, 1), scale), torch.empty(1, 512, dtype=dtype)
    fp4_dequant(codes, grid, out, block=(1, 512), implementation=implementation)
    assert_same(out, expected(codes, grid, 512, dtype, (1, 512)))


@implementations
@dtypes
@pytest.mark.parametrize("bk", [1, 2, 512])
@pytest.mark.parametrize(
    "bits", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex
)
def test_scales_that_are_not_finite(
    implementation: str, dtype: torch.dtype, bits: int, bk: int
) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(1, 256)[:, :255]
    grid = torch.from_numpy(np.full((1, -(-510 // bk)), bits, dtype=np.uint32).view(np.float32))
    for c0 in (0, 1):
        K = 510 - 2 * c0
        out = torch.empty(1, K, dtype=dtype)
        fp4_dequant(codes, grid, out, block=(1, bk), offset=(0, c0), implementation=implementation)
        assert_same(out, expected(codes, grid, K, dtype, (1, bk), (0, c0)))


@implementations
@pytest.mark.parametrize(
    ("dtype", "scale", "wanted"),
    [
        pytest.param(torch.bfloat16, bits_float(0x3F807FFF), 0x3F80, id="bf16-below-tie"),
        pytest.param(torch.bfloat16, bits_float(0x3F808000), 0x3F80, id="bf16-tie-to-even-down"),
        pytest.param(torch.bfloat16, bits_float(0x3F818000), 0x3F82, id="bf16-tie-to-even-up"),
        pytest.param(torch.bfloat16, bits_float(0x7F7F8000), 0x7F80, id="bf16-overflow"),
        pytest.param(torch.bfloat16, bits_float(0x00018000), 0x0002, id="bf16-subnormal-tie-up"),
        pytest.param(torch.float16, 1 + 2.0**-11, 0x3C00, id="fp16-tie-to-even-down"),
        pytest.param(torch.float16, 1 + 3 * 2.0**-11, 0x3C02, id="fp16-tie-to-even-up"),
        pytest.param(torch.float16, 65520.0, 0x7C00, id="fp16-overflow"),
        pytest.param(torch.float16, 2.0**-25, 0x0000, id="fp16-subnormal-tie-down"),
        pytest.param(torch.float16, 3 * 2.0**-25, 0x0002, id="fp16-subnormal-tie-up"),
    ],
)
def test_rounds_to_nearest_even(
    implementation: str, dtype: torch.dtype, scale: float, wanted: int
) -> None:
    codes = torch.full((1, 33), 0xA2, dtype=torch.uint8)  # 1 and -1
    out = torch.empty(1, 66, dtype=dtype)
    fp4_dequant(codes, torch.full((1, 1), scale), out, block=(1, 66), implementation=implementation)
    bits = [bits & 0xFFFF for bits in out.view(torch.int16)[0].tolist()]
    assert bits == [wanted, wanted | 0x8000] * 33


@implementations
@dtypes
@pytest.mark.parametrize("bk", [1, 7, 16, 32, 128, 2048, 2049])
@pytest.mark.parametrize(
    ("N", "K", "r0", "c0"),
    [
        (1, 1, 0, 0), (1, 1, 1, 1), (1, 2, 0, 1), (3, 17, 0, 0), (3, 33, 2, 15), (3, 32, 1, 31),
        (5, 129, 3, 64), (4, 130, 0, 33), (2, 1025, 0, 0), (2, 1026, 1, 1023), (2, 2050, 3, 2),
    ],
)  # fmt: skip
def test_ragged_sizes_in_mid_block(
    implementation: str, dtype: torch.dtype, N: int, K: int, r0: int, c0: int, bk: int
) -> None:
    block, offset = (2, bk), (r0, c0)
    codes, grid = random_codes(N, packed_width(K, c0)), grid_for((N, K), block, offset)
    out = torch.empty(N, K, dtype=dtype)
    fp4_dequant(codes, grid, out, block=block, offset=offset, implementation=implementation)
    assert_same(out, expected(codes, grid, K, dtype, block, offset))


@implementations
@pytest.mark.parametrize("bk", [1, 16, 24, 2049, 8192, 16383])
@pytest.mark.parametrize(("K", "c0"), [(8191, 0), (8193, 0), (8192, 1), (8194, 1), (8193, 8)])
def test_rows_longer_than_a_stretch(implementation: str, K: int, c0: int, bk: int) -> None:
    """numba takes 8192 columns at a time."""
    block, offset, dtype = (2, bk), (0, c0), torch.bfloat16
    codes, grid = random_codes(1, packed_width(K, c0)), grid_for((1, K), block, offset)
    out = torch.empty(1, K, dtype=dtype)
    fp4_dequant(codes, grid, out, block=block, offset=offset, implementation=implementation)
    assert_same(out, expected(codes, grid, K, dtype, block, offset))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 90)),
    block=st.tuples(st.integers(1, 17), st.integers(1, 65)),
    offset=st.tuples(st.integers(0, 70), st.integers(0, 140)),
    margin=st.tuples(*[st.integers(0, 3)] * 4),
    dtype=st.sampled_from(DTYPES),
    implementation=st.sampled_from(IMPLEMENTATIONS),
    seed=st.integers(0, 9),
)
def test_any_slice_of_any_weight_into_any_slice(
    shape: tuple[int, int],
    block: tuple[int, int],
    offset: tuple[int, int],
    margin: tuple[int, int, int, int],
    dtype: torch.dtype,
    implementation: str,
    seed: int,
) -> None:
    N, K = shape
    top, left, bottom, right = margin
    B = packed_width(K, offset[1])
    codes = random_codes(top + N + bottom, left + B + right, seed=seed)[top : top + N, left:][:, :B]
    whole = torch.full((bottom + N + top, right + K + left), 7.0, dtype=dtype)
    out = whole[bottom : bottom + N, right : right + K]
    grid = grid_for(shape, block, offset, seed)
    fp4_dequant(codes, grid, out, block=block, offset=offset, implementation=implementation)
    assert_same(out, expected(codes, grid, K, dtype, block, offset))
    out.fill_(7.0)
    assert bool((whole == 7.0).all()), "wrote outside of out"


@implementations
@dtypes
@pytest.mark.parametrize("bk", [1, 7, 16, 32, 2049])
@pytest.mark.parametrize(("K", "c0"), [(1, 1), (129, 15), (2050, 2), (8193, 1)])
def test_scales_as_bytes_with_a_table(
    implementation: str, dtype: torch.dtype, K: int, c0: int, bk: int
) -> None:
    block, offset = (2, bk), (3, c0)
    codes, table = random_codes(5, packed_width(K, c0)), torch.rand(256) + 0.01
    bytes_ = random_codes(*grid_for((5, K), block, offset).shape, seed=1)
    out = torch.empty(5, K, dtype=dtype)
    fp4_dequant(
        codes, bytes_, out, block=block, offset=offset, scale_table=table,
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(codes, table[bytes_.long()], K, dtype, block, offset))


def test_slices_of_one_weight_make_up_the_whole() -> None:
    N, K, block = 37, 70, (4, 16)
    codes, grid = random_codes(N, K // 2), grid_for((N, K), block)
    out = torch.empty(N, K, dtype=torch.bfloat16)

    def task(r0: int, c0: int) -> None:
        rows, columns = slice(r0, min(N, r0 + 7)), slice(c0, min(K, c0 + 23))
        part = codes[rows, c0 // 2 : (columns.stop + 1) // 2]
        fp4_dequant(part, grid, out[rows, columns], block=block, offset=(r0, c0))

    with ThreadPoolExecutor(8) as pool:
        tasks = [(r0, c0) for r0 in range(0, N, 7) for c0 in range(0, K, 23)]
        list(pool.map(task, *zip(*tasks, strict=True)))
    assert_same(out, expected(codes, grid, K, torch.bfloat16, block))


def test_float32_output_comes_from_the_reference() -> None:
    codes, grid, out = random_codes(5, 35), grid_for((5, 69), (4, 32)), torch.empty(5, 69)
    fp4_dequant(codes, grid, out, block=(4, 32))
    assert_same(out, expected(codes, grid, 69, torch.float32, (4, 32)))


def test_numba_for_float32_is_refused_not_replaced() -> None:
    codes, grid, out = random_codes(2, 1), torch.ones(1, 1), torch.empty(2, 2)
    with pytest.raises(RuntimeError, match=r"implementation numba cannot run: .*float32"):
        fp4_dequant(codes, grid, out, block=(2, 2), implementation="numba")


def test_unknown_implementation_is_a_key_error() -> None:
    codes, grid, out = random_codes(2, 1), torch.ones(1, 1), torch.empty(2, 2)
    with pytest.raises(KeyError, match="cuda"):
        fp4_dequant(codes, grid, out, block=(2, 2), implementation="cuda")


@pytest.mark.parametrize("c0", [8, 9])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_empty_slices_are_fine(shape: tuple[int, int], c0: int) -> None:
    codes = torch.empty(shape[0], packed_width(4, c0) if shape[1] else 0, dtype=torch.uint8)
    out = torch.empty(shape, dtype=torch.bfloat16)
    fp4_dequant(codes, torch.ones(1, 1), out, block=(4, 4), offset=(9, c0))


CODES, OUT = torch.zeros(4, 3, dtype=torch.uint8), torch.zeros(4, 6, dtype=torch.bfloat16)
ONE, TABLE = torch.ones(1, 1), torch.ones(256)


@implementations
@pytest.mark.parametrize(
    ("codes", "scale", "out", "options", "message"),
    [
        pytest.param(CODES, ONE, OUT[:3], {}, r"expected codes \[3, 3\]", id="rows-differ"),
        pytest.param(CODES, ONE, OUT[:, :4], {}, r"expected codes \[4, 2\]", id="wide"),
        pytest.param(CODES, ONE, OUT, {"offset": (0, 1)}, r"expected codes \[4, 4\]", id="odd"),
        pytest.param(CODES[0], ONE, OUT[0], {}, r"out \[6\]: expected \[N, K\]", id="one-dim"),
        pytest.param(CODES[0], ONE, OUT, {}, r"expected codes \[4, 3\]", id="codes-one-dim"),
        pytest.param(CODES[None], ONE, OUT[None], {}, r"expected \[N, K\]", id="three-dim"),
        pytest.param(CODES, ONE[0], OUT, {}, r"expected at least \[1, 1\]", id="scale-rank"),
        pytest.param(CODES, ONE, OUT, {"offset": (5, 0)}, r"\[2, 1\]", id="few-rows"),
        pytest.param(CODES, ONE, OUT, {"offset": (0, 4)}, r"\[1, 2\]", id="few-cols"),
        pytest.param(CODES, ONE, OUT, {"block": (0, 8)}, "block", id="block-zero"),
        pytest.param(CODES, ONE, OUT, {"block": (8, -8)}, "block", id="block-negative"),
        pytest.param(CODES, ONE, OUT, {"offset": (-1, 0)}, "offset", id="offset"),
        pytest.param(CODES.char(), ONE, OUT, {}, "uint8", id="codes-dtype"),
        pytest.param(CODES, ONE.double(), OUT, {}, "float32", id="scale-dtype"),
        pytest.param(CODES, ONE.byte(), OUT, {}, "float32", id="scale-without-table"),
        pytest.param(CODES, ONE, OUT, {"scale_table": TABLE}, "uint8", id="table-for-floats"),
        pytest.param(
            CODES, ONE.byte(), OUT, {"scale_table": TABLE[1:]}, r"\[256\]", id="short-table"
        ),
        pytest.param(CODES, ONE, OUT.int(), {}, "bfloat16", id="out-dtype"),
        pytest.param(
            CODES, torch.ones(2, 3).t(), OUT, {}, "scale: .*contiguous", id="scale-turned"
        ),
        pytest.param(
            CODES.t().contiguous().t(), ONE, OUT, {}, "contiguous last", id="codes-turned"
        ),
        pytest.param(CODES, ONE, OUT.t().contiguous().t(), {}, "contiguous last", id="out-turned"),
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
        fp4_dequant(codes, scale, out, **arguments)  # type: ignore[arg-type]


@pytest.fixture
def flush_denormal() -> Iterator[None]:
    """Float32 subnormals read and written as zero, as some processes set it."""
    if not torch.set_flush_denormal(True):
        pytest.skip("this CPU cannot flush denormals")
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@implementations
@dtypes
@pytest.mark.usefixtures("flush_denormal")
def test_normal_products_survive_flush_to_zero(implementation: str, dtype: torch.dtype) -> None:
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(1, 256)
    out = torch.empty(1, 512, dtype=dtype)
    assert (torch.tensor([2.0**-127]) * 1).item() == 0.0, "flushing is not on"
    fp4_dequant(codes, ONE, out, block=(1, 512), implementation=implementation)
    torch.set_flush_denormal(False)
    assert_same(out, expected(codes, ONE, 512, dtype, (1, 512)))


_ONCE = """
import torch
from vllm_ascend_bringup.kernels.fp4_dequant import fp4_dequant, numba_kernel
codes = torch.tensor([[0xA2]], dtype=torch.uint8)
out = torch.empty(1, 2, dtype=torch.bfloat16)
fp4_dequant(codes, torch.full((1, 1), 3.0), out, block=(1, 2), implementation="numba")
assert out.tolist() == [[3.0, -3.0]], out
stats = numba_kernel._decode.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
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

    assert run() == ["0", "1"]
    assert run() == ["1", "0"]
