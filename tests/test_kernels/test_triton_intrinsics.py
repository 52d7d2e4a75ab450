# SPDX-License-Identifier: Apache-2.0
"""Where Triton kernels may be chosen, and the rounding they share."""

from collections.abc import Iterator

import pytest
import torch
import triton
import triton.language as tl
from triton_interpreter import interpreting

from vllm_ascend_bringup.hardware import CHIPS, Chip
from vllm_ascend_bringup.kernels import triton_intrinsics
from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.triton_intrinsics import bfloat16_bits, programs, runs_on


@pytest.fixture(autouse=True)
def _asked_anew() -> Iterator[None]:
    triton_intrinsics._runs_on_npu.cache_clear()
    yield
    triton_intrinsics._runs_on_npu.cache_clear()


def test_only_in_the_interpreter_on_a_host() -> None:
    assert runs_on("cpu") == (False, "no Triton for Ascend on cpu")
    with interpreting():
        assert runs_on("cpu")[0]
        assert runs_on("npu") == (False, "Triton's interpreter, and tensors on npu")


def test_the_triton_of_vllm_is_not_that_of_ascend() -> None:
    assert runs_on("npu") == (False, f"triton {triton.__version__} is not triton-ascend")


@pytest.mark.parametrize("chip", [*CHIPS.values(), None], ids=lambda chip: chip and chip.id)
def test_which_chips_have_tiles(chip: Chip | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if triton-ascend were installed on a machine with this chip."""
    monkeypatch.setitem(triton.backends.backends, "ascend", None)
    monkeypatch.setattr(triton_intrinsics, "installed_chip", lambda: chip)
    ok, reason = runs_on("npu")
    assert ok == (chip is not None and chip.id in ("a2", "a3"))
    if not ok:
        assert reason == f"no tiles for {chip.title if chip else 'an unknown chip'}"
    made = choose("qk_norm", dtype=torch.float16, weight_dtype=torch.float16, device="npu")
    assert made.__module__.rpartition(".")[2] == ("triton_kernel" if ok else "reference")


@pytest.mark.parametrize(("tiles", "expected"), [(1, 1), (2, 2), (1000, 2)])
def test_no_program_without_a_tile(tiles: int, expected: int) -> None:
    assert programs("cpu", tiles) == expected


def _rounded(values_ptr, bits_ptr, SIZE: tl.constexpr):  # type: ignore[no-untyped-def]
    at = tl.arange(0, SIZE)
    tl.store(bits_ptr + at, bfloat16_bits(tl.load(values_ptr + at)))


def test_bfloat16_bits_rounds_as_torch_does() -> None:
    """Around every bfloat16: at it, half way to the next, and one bit to both sides of these."""
    upper = torch.arange(1 << 16, dtype=torch.int64)[:, None] << 16
    lower = torch.tensor([0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    values = (upper + lower).to(torch.uint32).view(torch.float32).reshape(-1)
    values = values[~values.isnan()]
    padded = torch.zeros(1 << 19)
    padded[: len(values)] = values
    bits = torch.empty(1 << 19, dtype=torch.int16)
    with interpreting():
        triton.jit(_rounded)[(1,)](padded, bits, 1 << 19)
    assert torch.equal(bits, padded.to(torch.bfloat16).view(torch.int16))
