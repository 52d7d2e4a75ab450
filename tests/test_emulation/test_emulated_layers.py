# SPDX-License-Identifier: Apache-2.0
"""Caches, formats, norms, activations and products of the emulation against their own formulas."""

from typing import Any

import pytest
import torch
from emulation_kit import FRACTAL_NZ, Install, nz

ND = 2
FLOATS = [torch.float16, torch.bfloat16, torch.float32]


def assert_rounded(found: torch.Tensor, exact: torch.Tensor) -> None:
    """``exact`` (float64) rounded to found's dtype; in float32 after a handful of operations."""
    slack = 8 if found.dtype == torch.float32 else 0.51
    spacing = torch.finfo(found.dtype).eps * exact.abs() * slack + 1e-7
    assert bool(((found.double() - exact).abs() <= spacing).all())


def test_rms_norm(torch_npu: Any) -> None:
    for dtype in FLOATS:
        for width in (1, 7, 64):
            x, gamma = torch.randn(3, 5, width).to(dtype), torch.randn(width).to(dtype)
            found, inverse = torch_npu.npu_rms_norm(x, gamma, 0.25)
            exact = 1 / (x.double().square().mean(-1, keepdim=True) + 0.25).sqrt()
            assert found.dtype == dtype
            assert inverse.dtype == torch.float32
            assert_rounded(found, x.double() * exact * gamma.double())
            assert_rounded(inverse, exact)


def test_rms_norm_without_epsilon_has_the_schemas(torch_npu: Any) -> None:
    x = torch.full((1, 2), 1e-3)
    found, _ = torch_npu.npu_rms_norm(x, torch.ones(2))
    assert_rounded(found, x.double() / (1e-6 + 1e-6) ** 0.5)


def test_add_rms_norm(torch_npu: Any) -> None:
    for dtype in FLOATS:
        one, other, gamma = (torch.randn(n).to(dtype) for n in ((4, 9), (4, 9), (9,)))
        found, inverse, total = torch_npu.npu_add_rms_norm(one, other, gamma, 0.25)
        assert torch.equal(total, one + other)
        exact = 1 / (total.double().square().mean(-1, keepdim=True) + 0.25).sqrt()
        assert_rounded(found, total.double() * exact * gamma.double())
        assert_rounded(inverse, exact)


@pytest.mark.parametrize("dim", [-1, 0])
def test_swiglu(torch_npu: Any, dim: int) -> None:
    for dtype in FLOATS:
        x = torch.randn(6, 10).to(dtype)
        gate, up = (x[:, :5], x[:, 5:]) if dim else (x[:3], x[3:])
        exact = gate.double() / (1 + (-gate.double()).exp()) * up.double()
        found = torch_npu.npu_swiglu(x, dim)
        assert found.dtype == dtype
        assert_rounded(found, exact)
    assert torch_npu.npu_swiglu(torch.ones(2, 4)).shape == (2, 2)


def test_a_cast_keeps_values_and_tags_the_storage(torch_npu: Any) -> None:
    x = torch.randn(3, 20)
    cast = torch_npu.npu_format_cast(x, FRACTAL_NZ)
    assert torch.equal(cast, x)
    assert torch_npu.get_npu_format(x) == ND
    for view in (cast, cast[1:], cast.view(-1), torch.nn.Parameter(cast, requires_grad=False).data):
        assert torch_npu.get_npu_format(view) == FRACTAL_NZ
    assert torch_npu.get_npu_format(cast + 0) == ND
    assert torch_npu.get_npu_format(torch_npu.npu_format_cast(cast, ND)) == ND
    cast.zero_()
    assert bool(x.any())


def test_a_cast_to_its_own_format_is_the_same_tensor(torch_npu: Any) -> None:
    cast = nz(torch.zeros(1, 1, 16, 16))
    nz(cast).fill_(1)
    assert bool(cast.all())


def test_empty_with_format(torch_npu: Any) -> None:
    made = torch_npu.empty_with_format(
        size=(2, 4, 16, 16), dtype=torch.float16, device="npu", acl_format=FRACTAL_NZ
    )
    assert (made.shape, made.dtype, made.device.type) == ((2, 4, 16, 16), torch.float16, "cpu")
    assert torch_npu.get_npu_format(made) == FRACTAL_NZ
    assert torch_npu.get_npu_format(torch_npu.empty_with_format((3,))) == ND


HEADS, SIZE, BLOCK, BLOCKS = 2, 48, 32, 3
SLOTS = torch.tensor([70, 3, -1, 31, 32], dtype=torch.int32)


def tokens() -> tuple[torch.Tensor, torch.Tensor]:
    return tuple(torch.randn(len(SLOTS), HEADS, SIZE).half() for _ in range(2))  # type: ignore[return-value]


def cell(cache: torch.Tensor, slot: int, head: int, at: int, fractal: bool) -> float:
    """Of an element of a token: in a 310P's cache ``[block, c // 16, offset, c % 16]``."""
    block, offset = divmod(slot, BLOCK)
    column = head * SIZE + at
    index = (block, column // 16, offset, column % 16) if fractal else (block, offset, head, at)
    return cache[index].item()


def assert_written(
    cache: torch.Tensor, rows: torch.Tensor, slots: list[int], fractal: bool
) -> None:
    """All elements of those tokens, and nothing else."""
    for row, slot in zip(rows, slots, strict=True):
        for head in range(HEADS):
            for at in range(SIZE):
                assert cell(cache, slot, head, at, fractal) == row[head, at].item()
    assert int((~cache.isnan()).sum()) == len(slots) * HEADS * SIZE


def caches(fractal: bool) -> list[torch.Tensor]:
    shape = (BLOCKS, HEADS * SIZE // 16, BLOCK, 16) if fractal else (BLOCKS, BLOCK, HEADS, SIZE)
    return [torch.full(shape, float("nan"), dtype=torch.float16) for _ in range(2)]


@pytest.mark.parametrize("chip", ["310p", "a2"])
def test_reshape_and_cache(install: Install, chip: str) -> None:
    torch_npu = install(chip=chip)
    fractal = chip == "310p"
    both = [nz(cache) for cache in caches(fractal)] if fractal else caches(fractal)
    pair = tokens()
    torch_npu._npu_reshape_and_cache(*pair, *both, SLOTS)
    kept = SLOTS >= 0
    for cache, rows in zip(both, pair, strict=True):
        assert_written(cache, rows[kept], SLOTS[kept].tolist(), fractal)


@pytest.mark.parametrize(
    ("options", "fractal"),
    [({"cache_mode": "Norm"}, False), ({"cache_mode": "PA_NZ"}, True), ({}, True)],
)
@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
def test_scatter_pa_kv_cache(
    install: Install, options: dict[str, str], fractal: bool, dtype: torch.dtype
) -> None:
    torch_npu = install(chip="a2")
    both, pair, slots = caches(fractal), tokens(), SLOTS.abs().to(dtype)
    torch_npu.npu_scatter_pa_kv_cache(*pair, *both, slots, **options)
    for cache, rows in zip(both, pair, strict=True):
        assert_written(cache, rows, slots.tolist(), fractal)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("order", [None, [0, 1, 2], [1, 0, 2]])
def test_transpose_batchmatmul(
    install: Install, order: list[int] | None, dtype: torch.dtype
) -> None:
    torch_npu = install(chip="a2")
    heads, rows, columns, more = 3, 5, 32, 16
    x = torch.randn((rows, heads, columns) if order == [1, 0, 2] else (heads, rows, columns))
    x, weight = x.to(dtype), torch.randn(heads, columns, more).to(dtype)
    found = torch_npu.npu_transpose_batchmatmul(x, weight, perm_x1=order, perm_y=[1, 0, 2])
    by_rows = "rhc" if order == [1, 0, 2] else "hrc"
    exact = torch.einsum(f"{by_rows},hcm->rhm", x.double(), weight.double())
    assert found.shape == (rows, heads, more)
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-5)
