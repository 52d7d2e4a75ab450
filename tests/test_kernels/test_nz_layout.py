# SPDX-License-Identifier: Apache-2.0
"""FRACTAL_NZ cell by cell, against its linear offset and vllm-ascend's published shapes."""

import pytest
import torch

from vllm_ascend_bringup.kernels.nz_layout import fractal_columns, from_nz, nz_shape, to_nz

SHAPES = [(1, 1), (13, 30), (16, 16), (17, 33), (32, 64), (30, 62), (8, 12), (1, 100), (100, 1)]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.int8, torch.int32, torch.bool]


def matrix(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(1, 100, shape, generator=generator).to(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_cell(shape: tuple[int, int], dtype: torch.dtype) -> None:
    nd = matrix(shape, dtype)
    c0 = {1: 32, 2: 16, 4: 16}[dtype.itemsize]
    padded_rows = -(-shape[0] // 16) * 16
    flat = to_nz(nd).flatten()
    expected = torch.zeros_like(flat)
    for i in range(shape[0]):
        for j in range(shape[1]):
            expected[(j // c0) * padded_rows * c0 + i * c0 + j % c0] = nd[i, j]
    assert torch.equal(flat, expected)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [*SHAPES, (3, 17, 33), (1, 16, 16)], ids=str)
def test_there_and_back(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    nd = matrix(shape, dtype)
    fractals = to_nz(nd)
    assert fractals.is_contiguous()
    assert fractals.dtype == dtype
    assert torch.equal(from_nz(fractals, *shape[-2:]), nd.reshape(-1, *shape[-2:]))


def test_matrices_of_a_batch_do_not_mix() -> None:
    nd = matrix((3, 17, 33), torch.float16)
    assert torch.equal(to_nz(nd), torch.cat([to_nz(each) for each in nd]))


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((32, 64), (1, 4, 32, 16)), ((30, 62), (1, 4, 32, 16)), ((8, 12), (1, 1, 16, 16))],
)
def test_shapes_that_vllm_ascend_pins(
    shape: tuple[int, int], expected: tuple[int, int, int, int]
) -> None:
    assert to_nz(torch.ones(shape, dtype=torch.float16)).shape == expected
    assert (1, *nz_shape(*shape, fractal_columns(torch.float16))) == expected


def test_arguments_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match=r"matrix \[4\]: expected two or three dimensions"):
        to_nz(torch.ones(4))
    with pytest.raises(ValueError, match=r"fractals \[1, 1, 16, 16\]: expected \['B', 2, 16, 16\]"):
        from_nz(torch.ones(1, 1, 16, 16, dtype=torch.float16), 16, 17)
