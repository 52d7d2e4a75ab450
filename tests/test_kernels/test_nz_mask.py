# SPDX-License-Identifier: Apache-2.0
"""Mask rows in FRACTAL_NZ, every cell against the one-line formula."""

import math
from types import ModuleType

import pytest
import torch
from triton_interpreter import interpreting

from vllm_ascend_bringup.kernels.nz_layout import from_nz, to_nz
from vllm_ascend_bringup.kernels.nz_mask import mask_bytes, mask_rows, reference, triton_kernel

HIDDEN = float("-inf")


def by_formula(positions: list[int], width: int, window: int | None, hidden: float) -> torch.Tensor:
    cells = [
        [0.0 if j <= p and (window is None or j > p - window) else hidden for j in range(width)]
        for p in positions
    ]
    return torch.tensor(cells)


@pytest.mark.parametrize(
    ("implementation", "module", "constant", "value"),
    [
        ("reference", reference, "_CELLS", 1 << 21), ("reference", reference, "_CELLS", 1),
        ("triton", triton_kernel, "TILES", triton_kernel.TILES),
        ("triton", triton_kernel, "TILES", (16,)),
    ],
    ids=["reference", "reference-column-by-column", "triton", "triton-in-small-tiles"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("window", [None, 1, 5, 16, 1000], ids=str)
@pytest.mark.parametrize(
    ("positions", "width"),
    [
        ([0], 1),
        (list(range(16)), 16),
        (list(range(33)), 33),
        # A batch: rows of a chunk at 40, a decode at 16, the start of a prompt.
        ([40, 41, 42, 16, 0, 1, 2], 43),
        ([99], 100),
        ([5], 3),
    ],
    ids=["one", "tile", "prompt", "batch", "decode", "beyond"],
)
def test_every_cell(
    positions: list[int], width: int, window: int | None, dtype: torch.dtype, implementation: str,
    module: ModuleType, constant: str, value: object, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, constant, value)
    with interpreting():
        made = mask_rows(
            torch.tensor(positions), width, dtype, window=window, implementation=implementation
        )
    expected = by_formula(positions, width, window, HIDDEN).to(dtype)
    assert made.dtype == dtype
    assert torch.equal(from_nz(made, len(positions), width)[0], expected)
    # And padding is zero.
    assert torch.equal(made, to_nz(expected))


@pytest.mark.parametrize("implementation", ["reference", "triton"])
@pytest.mark.parametrize(
    ("dtype", "hidden", "stored"),
    [
        (torch.float16, -10000.0, -10000.0),
        (torch.bfloat16, -10020.0, -10048.0),  # nearer than -9984
    ],
    ids=str,
)
def test_another_value_for_what_is_hidden(
    implementation: str, dtype: torch.dtype, hidden: float, stored: float
) -> None:
    positions = torch.arange(4, dtype=torch.int32)
    with interpreting():
        made = mask_rows(positions, 4, dtype, hidden=hidden, implementation=implementation)
    assert set(made.flatten().tolist()) == {0.0, stored}


@pytest.mark.parametrize(("queries", "width"), [(512, 17), (513, 16), (1100, 33)])
def test_triton_in_several_tiles_equals_the_reference(queries: int, width: int) -> None:
    positions = torch.arange(queries).flip(0)
    with interpreting():
        made = mask_rows(positions, width, torch.float16, window=9, implementation="triton")
    expected = mask_rows(positions, width, torch.float16, window=9, implementation="reference")
    assert torch.equal(made, expected)


def test_triton_makes_no_other_dtype() -> None:
    with (
        interpreting(),
        pytest.raises(RuntimeError, match=r"triton cannot run: masks of torch\.float32"),
    ):
        mask_rows(torch.arange(3), 4, torch.float32, implementation="triton")


@pytest.mark.parametrize(("queries", "width"), [(1, 1), (17, 40), (2048, 4096)])
def test_bytes(queries: int, width: int) -> None:
    made = mask_rows(torch.arange(queries), width, torch.float16)
    assert made.numel() * made.element_size() == mask_bytes(queries, width)


def test_what_vllm_ascend_pins() -> None:
    """A causal mask of 4096: its first query does not see the last key."""
    made = mask_rows(torch.arange(4096), 4096, torch.float16)
    assert made.shape == (1, 256, 4096, 16)
    assert math.isinf(made[0][-1][0][-1].item())
    # Queries [1, 4] of sequences [7, 4]: five rows, padded to sixteen.
    assert mask_rows(torch.tensor([6, 0, 1, 2, 3]), 4096, torch.float16).shape == (1, 256, 16, 16)


@pytest.mark.parametrize(
    ("positions", "width", "window", "message"),
    [
        (torch.ones(3), 4, None, r"positions torch\.float32 \[3\]: expected integers"),
        (torch.ones(3, 1, dtype=torch.int32), 4, None, r"positions torch\.int32 \[3, 1\]"),
        (torch.arange(3), 0, None, "3 queries, width 0, window None: expected at least one"),
        (torch.arange(0), 4, None, "0 queries, width 4"),
        (torch.arange(3), 4, 0, "window 0"),
    ],
)
def test_arguments_that_do_not_fit(
    positions: torch.Tensor, width: int, window: int | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mask_rows(positions, width, torch.float16, window=window)
