# SPDX-License-Identifier: Apache-2.0
"""int_dequant: numba and the reference against a definition that goes element by element."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend_bringup.kernels.int_dequant import int_dequant

IMPLEMENTATIONS = ("numba", "reference")
DTYPES = (torch.bfloat16, torch.float16)
BITS = {torch.bfloat16: torch.int16, torch.float16: torch.int16, torch.float32: torch.int32}

implementations = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=("bf16", "fp16"))
widths = pytest.mark.parametrize("bits", [4, 8])
zeros = pytest.mark.parametrize("has_zero", [False, True], ids=("symmetric", "zero"))


def expected(
    codes: torch.Tensor,
    scale: torch.Tensor,
    zero: torch.Tensor | None,
    K: int,
    dtype: torch.dtype,
    bits: int,
    block: tuple[int, int],
    offset: tuple[int, int] = (0, 0),
) -> torch.Tensor:
    """Every element by its own code, scale and zero point: float32 product, one rounding."""
    stored, grid = codes.tolist(), scale.numpy()
    r0, c0 = offset
    product = np.empty((len(stored), K), dtype=np.float32)
    with np.errstate(all="ignore"):
        for i, row in enumerate(stored):
            for j in range(K):
                code = row[j] if bits == 8 else row[(c0 % 2 + j) // 2] >> 4 * ((c0 + j) % 2) & 15
                at = (i + r0) // block[0], (j + c0) // block[1]
                difference = code - (2 ** (bits - 1) if zero is None else int(zero[at]))
                product[i, j] = np.float32(difference) * grid[at]
    return torch.from_numpy(product).to(dtype)


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    """Bit for bit, except that any NaN equals any NaN."""
    assert found.dtype == wanted.dtype
    assert torch.equal(found.isnan(), wanted.isnan())
    bits = BITS[wanted.dtype]
    real = ~wanted.isnan()
    assert torch.equal(found.contiguous().view(bits)[real], wanted.contiguous().view(bits)[real])


def stored_width(K: int, bits: int, c0: int = 0) -> int:
    return K if bits == 8 else (c0 % 2 + K + 1) // 2


def random_bytes(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def every_byte() -> torch.Tensor:
    return torch.arange(256, dtype=torch.int32).to(torch.uint8).reshape(1, 256)


def grids_for(
    shape: tuple[int, int],
    block: tuple[int, int],
    offset: tuple[int, int],
    bits: int,
    has_zero: bool,
    seed: int = 0,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """A scale grid with no two equal scales, just large enough, and zero points."""
    R, C = (-(-(o + n) // b) for o, n, b in zip(offset, shape, block, strict=True))
    generator = torch.Generator().manual_seed(seed)
    scale = torch.rand(R, C, generator=generator) * 0.01 + 1e-4
    zero = random_bytes(R, C, seed=seed + 1) >> (8 - bits)
    return scale, zero if has_zero else None


def bits_float(bits: int) -> float:
    return float(np.array(bits, dtype=np.uint32).view(np.float32))


@implementations
@dtypes
@pytest.mark.parametrize(
    ("bits", "stored", "zero", "wanted"),
    [
        (4, [0x10, 0x87, 0xF9], None, [-8, -7, -1, 0, 1, 7]),
        (4, [0x10, 0x87, 0xF9], 0, [0, 1, 7, 8, 9, 15]),
        (4, [0x10, 0x87, 0xF9], 15, [-15, -14, -8, -7, -6, 0]),
        (8, [0, 1, 127, 128, 129, 255], None, [-128, -127, -1, 0, 1, 127]),
        (8, [0, 1, 127, 128, 129, 255], 0, [0, 1, 127, 128, 129, 255]),
        (8, [0, 1, 127, 128, 129, 255], 255, [-255, -254, -128, -127, -126, 0]),
    ],
)
def test_known_values(
    bits: int,
    stored: list[int],
    zero: int | None,
    wanted: list[int],
    implementation: str,
    dtype: torch.dtype,
) -> None:
    out = torch.empty(1, 6, dtype=dtype)
    int_dequant(
        torch.tensor([stored], dtype=torch.uint8),
        torch.full((1, 1), 0.5),
        None if zero is None else torch.tensor([[zero]], dtype=torch.uint8),
        out,
        bits=bits,
        block=(1, 6),
        implementation=implementation,
    )
    assert out.tolist() == [[number / 2 for number in wanted]]


@implementations
@dtypes
@widths
@zeros
@pytest.mark.parametrize(
    "scale",
    [1.0, -0.0123, 2.0**-126, 2.0**-149, 300.0, 1e37, 3.4e38, 0.0, -0.0],
    ids="{:.3g}".format,
)
def test_every_byte(
    bits: int, has_zero: bool, implementation: str, dtype: torch.dtype, scale: float
) -> None:
    codes, K = every_byte(), 2048 // bits
    grid, zero = torch.full((1, 1), scale), torch.tensor([[7]], dtype=torch.uint8)
    out = torch.empty(1, K, dtype=dtype)
    int_dequant(
        codes, grid, zero if has_zero else None, out, bits=bits, block=(1, K),
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(codes, grid, zero if has_zero else None, K, dtype, bits, (1, K)))


@implementations
@dtypes
@widths
def test_every_code_with_every_zero_point(
    bits: int, implementation: str, dtype: torch.dtype
) -> None:
    """Zero points beyond the codes' range too: nothing keeps a file from having them."""
    codes = (every_byte() if bits == 8 else every_byte()[:, :16] * 17).expand(256, -1)
    K, zero, scale = 256 if bits == 8 else 32, every_byte().reshape(256, 1), torch.rand(256, 1)
    out = torch.empty(256, K, dtype=dtype)
    int_dequant(codes, scale, zero, out, bits=bits, block=(1, K), implementation=implementation)
    code = torch.arange(K) if bits == 8 else torch.arange(K) // 2
    assert_same(out, ((code - zero.to(torch.int64)).to(torch.float32) * scale).to(dtype))


@implementations
@dtypes
@widths
@pytest.mark.parametrize("bk", [1, 2, 512])
@pytest.mark.parametrize(
    "pattern", [0x7F800000, 0xFF800000, 0x7FC00000, 0x7F800001, 0x7FFFFFFF, 0xFFFFFFFF], ids=hex
)
def test_scales_that_are_not_finite(
    implementation: str, dtype: torch.dtype, bits: int, pattern: int, bk: int
) -> None:
    for c0 in (0, 1):
        K = 253 if bits == 8 else 510 - 2 * c0
        codes = every_byte()[:, : stored_width(K, bits, c0)]
        stored = np.full((1, -(-(c0 + K) // bk)), pattern, dtype=np.uint32)
        grid, out = torch.from_numpy(stored.view(np.float32)), torch.empty(1, K, dtype=dtype)
        int_dequant(
            codes, grid, None, out, bits=bits, block=(1, bk), offset=(0, c0),
            implementation=implementation,
        )  # fmt: skip
        assert_same(out, expected(codes, grid, None, K, dtype, bits, (1, bk), (0, c0)))


@implementations
@widths
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
        pytest.param(torch.float16, 3 * 2.0**-25, 0x0002, id="fp16-subnormal-tie-up"),
    ],
)
def test_rounds_to_nearest_even(
    implementation: str, bits: int, dtype: torch.dtype, scale: float, wanted: int
) -> None:
    stored = [0x79] * 33 if bits == 4 else [129, 127] * 33  # 1 and -1
    codes, out = torch.tensor([stored], dtype=torch.uint8), torch.empty(1, 66, dtype=dtype)
    int_dequant(
        codes, torch.full((1, 1), scale), None, out, bits=bits, block=(1, 66),
        implementation=implementation,
    )  # fmt: skip
    found = [bits & 0xFFFF for bits in out.view(torch.int16)[0].tolist()]
    assert found == [wanted, wanted | 0x8000] * 33


@implementations
@widths
@zeros
@pytest.mark.parametrize("bk", [1, 7, 32, 128, 2048, 2049])
@pytest.mark.parametrize(
    ("N", "K", "r0", "c0"),
    [
        (1, 1, 0, 0), (1, 1, 1, 1), (1, 2, 0, 1), (3, 17, 0, 0), (3, 33, 2, 15), (3, 32, 1, 31),
        (4, 130, 0, 33), (2, 1025, 1, 0), (2, 1026, 1, 1023), (2, 1027, 3, 2),
    ],
)  # fmt: skip
def test_ragged_sizes_in_mid_block(
    implementation: str, bits: int, has_zero: bool, N: int, K: int, r0: int, c0: int, bk: int
) -> None:
    block, offset, dtype = (2, bk), (r0, c0), DTYPES[K % 2]
    scale, zero = grids_for((N, K), block, offset, bits, has_zero)
    codes, out = random_bytes(N, stored_width(K, bits, c0)), torch.empty(N, K, dtype=dtype)
    int_dequant(
        codes, scale, zero, out, bits=bits, block=block, offset=offset,
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(codes, scale, zero, K, dtype, bits, block, offset))


@implementations
@widths
@pytest.mark.parametrize("bk", [1, 32, 40, 2049, 8192, 16383])
@pytest.mark.parametrize(("K", "c0"), [(4097, 3), (8193, 0), (8192, 1), (8194, 1), (8193, 8)])
def test_rows_longer_than_a_stretch(
    implementation: str, bits: int, K: int, c0: int, bk: int
) -> None:
    """numba takes 4096 bytes of codes at a time."""
    block, offset, dtype = (2, bk), (0, c0), torch.bfloat16
    scale, zero = grids_for((1, K), block, offset, bits, True)
    codes, out = random_bytes(1, stored_width(K, bits, c0)), torch.empty(1, K, dtype=dtype)
    int_dequant(
        codes, scale, zero, out, bits=bits, block=block, offset=offset,
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(codes, scale, zero, K, dtype, bits, block, offset))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    shape=st.tuples(st.integers(1, 20), st.integers(1, 90)),
    block=st.tuples(st.integers(1, 17), st.integers(1, 65)),
    offset=st.tuples(st.integers(0, 70), st.integers(0, 140)),
    margin=st.tuples(*[st.integers(0, 3)] * 4),
    bits=st.sampled_from((4, 8)),
    has_zero=st.booleans(),
    dtype=st.sampled_from(DTYPES),
    implementation=st.sampled_from(IMPLEMENTATIONS),
    seed=st.integers(0, 9),
)
def test_any_slice_of_any_weight_into_any_slice(
    shape: tuple[int, int],
    block: tuple[int, int],
    offset: tuple[int, int],
    margin: tuple[int, int, int, int],
    bits: int,
    has_zero: bool,
    dtype: torch.dtype,
    implementation: str,
    seed: int,
) -> None:
    N, K = shape
    top, left, bottom, right = margin
    B = stored_width(K, bits, offset[1])
    codes = random_bytes(top + N + bottom, left + B + right, seed=seed)[top : top + N, left:][:, :B]
    whole = torch.full((bottom + N + top, right + K + left), 7.0, dtype=dtype)
    out = whole[bottom : bottom + N, right : right + K]
    scale, zero = grids_for(shape, block, offset, bits, has_zero, seed)
    int_dequant(
        codes, scale, zero, out, bits=bits, block=block, offset=offset,
        implementation=implementation,
    )  # fmt: skip
    assert_same(out, expected(codes, scale, zero, K, dtype, bits, block, offset))
    out.fill_(7.0)
    assert bool((whole == 7.0).all()), "wrote outside of out"


@widths
def test_slices_of_one_weight_make_up_the_whole(bits: int) -> None:
    N, K, block, dtype = 37, 70, (4, 16), torch.bfloat16
    codes = random_bytes(N, stored_width(K, bits))
    scale, zero = grids_for((N, K), block, (0, 0), bits, True)
    out = torch.empty(N, K, dtype=dtype)

    def task(r0: int, c0: int) -> None:
        rows, columns = slice(r0, min(N, r0 + 7)), slice(c0, min(K, c0 + 23))
        stored = columns if bits == 8 else slice(c0 // 2, (columns.stop + 1) // 2)
        int_dequant(
            codes[rows, stored], scale, zero, out[rows, columns], bits=bits, block=block,
            offset=(r0, c0),
        )  # fmt: skip

    with ThreadPoolExecutor(8) as pool:
        tasks = [(r0, c0) for r0 in range(0, N, 7) for c0 in range(0, K, 23)]
        list(pool.map(task, *zip(*tasks, strict=True)))
    assert_same(out, expected(codes, scale, zero, K, dtype, bits, block))


@widths
@zeros
def test_float32_output_comes_from_the_reference(bits: int, has_zero: bool) -> None:
    codes, out = random_bytes(5, stored_width(69, bits)), torch.empty(5, 69)
    scale, zero = grids_for((5, 69), (4, 32), (0, 0), bits, has_zero)
    int_dequant(codes, scale, zero, out, bits=bits, block=(4, 32))
    assert_same(out, expected(codes, scale, zero, 69, torch.float32, bits, (4, 32)))


def test_numba_for_float32_is_refused_not_replaced() -> None:
    codes, out = random_bytes(2, 2), torch.empty(2, 2)
    with pytest.raises(RuntimeError, match=r"implementation numba cannot run: .*float32"):
        int_dequant(
            codes, torch.ones(1, 1), None, out, bits=8, block=(2, 2), implementation="numba"
        )


def test_unknown_implementation_is_a_key_error() -> None:
    codes, out = random_bytes(2, 2), torch.empty(2, 2)
    with pytest.raises(KeyError, match="cuda"):
        int_dequant(codes, torch.ones(1, 1), None, out, bits=8, block=(2, 2), implementation="cuda")


@widths
@pytest.mark.parametrize("c0", [8, 9])
@pytest.mark.parametrize("shape", [(0, 4), (4, 0)], ids=str)
def test_empty_slices_are_fine(shape: tuple[int, int], c0: int, bits: int) -> None:
    B = stored_width(4, bits, c0) if shape[1] else 0
    codes = torch.empty(shape[0], B, dtype=torch.uint8)
    out = torch.empty(shape, dtype=torch.bfloat16)
    int_dequant(codes, torch.ones(1, 1), None, out, bits=bits, block=(4, 4), offset=(9, c0))


PACKED, BYTES = torch.zeros(4, 3, dtype=torch.uint8), torch.zeros(4, 6, dtype=torch.uint8)
ONE, ZERO = torch.ones(1, 1), torch.zeros(1, 1, dtype=torch.uint8)
OUT = torch.zeros(4, 6, dtype=torch.bfloat16)


@implementations
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        pytest.param({"bits": 2}, "bits 2: expected 4 or 8", id="bits"),
        pytest.param({"bits": 8}, r"expected codes \[4, 6\]", id="packed-as-bytes"),
        pytest.param({"codes": BYTES}, r"expected codes \[4, 3\]", id="bytes-as-packed"),
        pytest.param({"out": OUT[:3]}, r"expected codes \[3, 3\]", id="rows-differ"),
        pytest.param({"offset": (0, 1)}, r"expected codes \[4, 4\]", id="odd"),
        pytest.param({"codes": PACKED[0], "out": OUT[0]}, r"expected \[N, K\]", id="one-dim"),
        pytest.param({"codes": PACKED[None], "out": OUT[None]}, r"\[N, K\]", id="three-dim"),
        pytest.param({"scale": ONE[0]}, r"expected at least \[1, 1\]", id="scale-rank"),
        pytest.param({"offset": (5, 0)}, r"\[2, 1\]", id="few-rows"),
        pytest.param({"offset": (0, 4)}, r"\[1, 2\]", id="few-cols"),
        pytest.param({"block": (0, 8)}, "block", id="block-zero"),
        pytest.param({"block": (8, -8)}, "block", id="block-negative"),
        pytest.param({"offset": (-1, 0)}, "offset", id="offset"),
        pytest.param({"codes": PACKED.char()}, "codes .*uint8", id="codes-dtype"),
        pytest.param({"scale": ONE.double()}, "scale .*float32", id="scale-dtype"),
        pytest.param({"zero": ZERO.char()}, "zero .*uint8", id="zero-dtype"),
        pytest.param({"zero": ZERO[0]}, r"zero \[1\]: expected \[1, 1\]", id="zero-rank"),
        pytest.param({"zero": ZERO.expand(2, 1)}, r"zero \[2, 1\]: exp", id="zero-shape"),
        pytest.param(
            {"scale": torch.ones(2, 3), "zero": torch.zeros(3, 2, dtype=torch.uint8).t()},
            "zero .*contiguous",
            id="zero-turned",
        ),
        pytest.param({"scale": torch.ones(2, 3).t()}, "scale: .*contiguous", id="scale-turned"),
        pytest.param({"out": OUT.int()}, "bfloat16", id="out-dtype"),
        pytest.param({"codes": PACKED.t().contiguous().t()}, "contiguous last", id="codes-turned"),
        pytest.param({"out": OUT.t().contiguous().t()}, "contiguous last", id="out-turned"),
    ],
)
def test_arguments_that_do_not_fit_raise_value_error(
    changes: "dict[str, object]", message: str, implementation: str
) -> None:
    arguments: dict[str, object] = {
        "codes": PACKED, "scale": ONE, "zero": ZERO, "out": OUT, "bits": 4, "block": (8, 8),
        "implementation": implementation, **changes,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        int_dequant(**arguments)  # type: ignore[arg-type]


_ONCE = """
import torch
from vllm_ascend_bringup.kernels.int_dequant import int_dequant, numba_kernel
out = torch.empty(1, 2, dtype=torch.bfloat16)
for bits, stored in ((4, [0x79]), (8, [129, 127])):
    codes = torch.tensor([stored], dtype=torch.uint8)
    for zero in (None, torch.full((1, 1), 1 << bits - 1, dtype=torch.uint8)):
        int_dequant(
            codes, torch.full((1, 1), 3.0), zero, out, bits=bits, block=(1, 2),
            implementation="numba",
        )
        assert out.tolist() == [[3.0, -3.0]], out
stats = [function.stats for function in (numba_kernel._decode_4_bits, numba_kernel._decode_8_bits)]
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
    assert run() == ["1", "1", "0", "0"]
