# SPDX-License-Identifier: Apache-2.0
"""The Triton kernels' tiles: the launchers' tables, the document, and Ascend's compiler agree."""

import re
import subprocess
from pathlib import Path

import pytest
import torch

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.kernels.catalog import KERNELS
from vllm_ascend_bringup.tools import cpu_setup, npu_setup
from vllm_ascend_bringup.tools.kernels_npu.cases import CASES, Case
from vllm_ascend_bringup.tools.kernels_npu.compiler import _used
from vllm_ascend_bringup.tools.kernels_npu.document import document
from vllm_ascend_bringup.tools.kernels_npu.results import (
    Outcome,
    Result,
    fingerprint,
    problems,
    shown,
)

ROOT = Path(__file__).resolve().parents[2]
COMPILER = ROOT / ".venv-npu" / "bin" / "python"
TARGETS = [chip.triton_target for chip in CHIPS.values() if chip.triton_target]
WRITTEN = (ROOT / "docs" / "kernels-npu.md").read_text()

cases = pytest.mark.parametrize("case", CASES, ids=[case.kernel for case in CASES])


def table(title: str) -> list[list[str]]:
    """The rows of a table of the document, by the heading above it."""
    section = WRITTEN.partition(f"## {title}\n")[2].partition("\n## ")[0]
    rows = [line.strip("| \n").split(" | ") for line in section.splitlines() if line[:2] == "| "]
    assert rows[0] == ["kernel", "tile", "dtype", *TARGETS]
    return rows[1:]


def test_every_triton_kernel_is_compiled() -> None:
    with_triton = {name for name, found in KERNELS.items() if "triton" in found}
    assert {case.kernel for case in CASES} == with_triton
    assert {row[0] for row in table("Tiles that the launchers choose from")} == with_triton


@cases
def test_document_shows_that_the_launchers_tiles_fit(case: Case) -> None:
    rows = [row for row in table("Tiles that the launchers choose from") if row[0] == case.kernel]
    dtypes = [str(dtype).removeprefix("torch.") for dtype in case.dtypes]
    assert [row[1:3] for row in rows] == [[shown(t), d] for t in case.tiles() for d in dtypes]
    for row in rows:
        for cell in row[3:]:
            assert 0 < int(cell.replace(",", "")) <= 196608


@cases
def test_document_shows_that_larger_tiles_do_not(case: Case) -> None:
    rows = [row for row in table("The next larger") if row[0] == case.kernel]
    assert {row[1] for row in rows} == {shown(tile) for tile in case.larger()}
    for tile in {row[1] for row in rows}:
        for target in range(3, 3 + len(TARGETS)):
            assert any("overflows" in row[target] for row in rows if row[1] == tile)


@cases
def test_document_is_about_this_source(case: Case) -> None:
    line = f"| {case.kernel} | {fingerprint(case.kernel)} |"
    assert line in WRITTEN, "the kernel has changed: run make kernels-npu"


def test_document_names_the_packages_that_are_installed() -> None:
    for package in npu_setup.PACKAGES:
        name, _, version = package.partition("==")
        if name in ("triton-ascend", "ascendnpu-ir", "torch"):
            assert f"{name} {version}" in WRITTEN
    assert f"torch=={cpu_setup.TORCH}" in npu_setup.PACKAGES


@pytest.mark.parametrize(
    ("case", "dtype", "tile", "types", "constants"),
    [
        (CASES[0], torch.bfloat16, (4, 2048),
         ["*u8", "*fp32", "*i16", "*i32", *["i32"] * 13], {"TN": 4, "TK": 2048}),
        (CASES[0], torch.float16, (64, 128),
         ["*u8", "*fp32", "*fp16", "*i32", *["i32"] * 13], {"TN": 64, "TK": 128}),
        (CASES[1], torch.bfloat16, (128,),
         ["*i32", "*bf16", *["i32"] * 6, "fp32"], {"TT": 128, "C0": 16}),
        (CASES[2], torch.float32, (1, 8192),
         ["*fp32"] * 4 + ["i32"] * 5 + ["fp32"], {"TT": 1, "TN": 8192}),
    ],
    ids=["fp8-bf16", "fp8-fp16", "mask", "norm"],
)  # fmt: skip
def test_arguments_are_those_of_a_launch(
    case: Case, dtype: torch.dtype, tile: tuple[int, ...], types: list[str],
    constants: dict[str, int],
) -> None:  # fmt: skip
    kernel = getattr(case.module, case.function)
    signature, found = case.arguments(dtype, tile)
    assert list(signature.values()) == types
    assert found == constants
    assert [*signature, *found] == kernel.arg_names
    assert getattr(case.module, case.function) is kernel


@cases
def test_integers_are_not_compiled_in(case: Case) -> None:
    """Triton would specialize a kernel on integers that are 1, and nobody has compiled that."""
    source = Path(str(case.module.__file__)).read_text()
    listed = re.search(r"do_not_specialize=\[(.*?)\]", source, re.DOTALL)
    assert listed
    signature, _ = case.arguments(case.dtypes[0], case.tiles()[0])
    integers = [name for name, type_ in signature.items() if type_ == "i32"]
    assert re.findall(r'"(\w+)"', listed[1]) == integers


def result(tile: int, outcome: Outcome, *, selectable: bool = True, dtype: str = "a") -> Result:
    return Result("k", (tile,), dtype, "Ascend", selectable, outcome)


FITS, FULL = Outcome(10, 20), Outcome(error="x", overflow=30, available=20)
CONCEDED = Outcome(10, 20, ("enable-auto-multi-buffer off",))


@pytest.mark.parametrize(
    ("results", "expected"),
    [
        ([result(1, FITS), result(2, FULL, selectable=False)], []),
        ([result(1, FULL)], ["k 1 for Ascend, a: overflows: 30 of 20 bytes"]),
        ([result(1, CONCEDED)], ["k 1 for Ascend, a: only with enable-auto-multi-buffer off"]),
        ([result(1, Outcome(error="broken"))], ["k 1 for Ascend, a: broken"]),
        ([result(2, FITS, selectable=False)], ["k 2 for Ascend: fits, but is not in the table"]),
        ([result(2, FITS, selectable=False), result(2, FULL, selectable=False, dtype="b")], []),
    ],
    ids=["good", "overflow", "one buffer", "broken", "room left", "not for all dtypes"],
)
def test_problems(results: list[Result], expected: list[str]) -> None:
    assert problems(results) == expected


def test_document_of_a_tile_that_overflows() -> None:
    made = document(
        [
            Result("nz_mask", (16,), "float16", "Ascend910B3", True, FITS),
            Result("nz_mask", (32,), "float16", "Ascend910B3", False, FULL),
        ],
        "a compiler", ["--flag"],
    )  # fmt: skip
    assert "| nz_mask | 16 | float16 | 10 |\n" in made
    assert "| nz_mask | 32 | float16 | overflows: 30 of 20 bytes |\n" in made


HIVM = """
    %c0_i64 = arith.constant 0 : i64
    %c81920_i64 = arith.constant 81920 : i64
    %0 = hivm.hir.pointer_cast(%c0_i64, %c81920_i64) : memref<64x128xbf16, #hivm.address_space<ub>>
    %1 = hivm.hir.pointer_cast(%c0_i64) : memref<8xi1, #hivm.address_space<ub>>
"""


def test_memory_used_is_the_end_of_the_last_buffer() -> None:
    assert _used(HIVM) == 81920 + 64 * 128 * 2
    assert _used("") == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (HIVM.replace("address_space<ub>", "address_space<cbuf>"), "buffer in cbuf"),
        (HIVM.replace("memref<8xi1,", "memref<?xi1,"), "2 buffers, 1 understood"),
    ],
    ids=["elsewhere", "unknown size"],
)
def test_buffers_that_would_not_be_counted(changed: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _used(changed)


needs_compiler = pytest.mark.skipif(
    not COMPILER.exists(), reason="Ascend's compiler is not installed: make kernels-npu does that"
)


def compile_masks(tiles: tuple[int, ...], *options: str) -> "subprocess.CompletedProcess[str]":
    """Run the program in its own environment, for one kernel whose launcher has these tiles."""
    code = (
        "import sys\n"
        "from vllm_ascend_bringup.kernels.nz_mask import triton_kernel\n"
        "from vllm_ascend_bringup.tools.kernels_npu.__main__ import main\n"
        f"triton_kernel.TILES = {tiles}\n"
        "sys.exit(main())"
    )
    return subprocess.run(
        [str(COMPILER), "-c", code, "nz_mask", *options], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


@pytest.mark.npu_compiler
@needs_compiler
def test_tiles_of_one_kernel_compile_as_documented(tmp_path: Path) -> None:
    done = compile_masks((16, 128, 512), "--output", str(tmp_path / "made.md"))
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line for line in WRITTEN.splitlines() if line.startswith("| nz_mask | ")]
    made = (tmp_path / "made.md").read_text()
    assert [line for line in made.splitlines() if line.startswith("| nz_mask | ")] == rows


@pytest.mark.npu_compiler
@needs_compiler
def test_a_tile_that_overflows_is_a_problem() -> None:
    done = compile_masks((16, 1024))
    assert done.returncode == 1
    for target in TARGETS:
        expected = (
            rf"problem: nz_mask 1024 for {target}, float16: overflows: [\d,]+ of 196,608 bytes"
        )
        assert re.search(expected, done.stderr)
    assert "problem: nz_mask 16 " not in done.stderr


@pytest.mark.npu_compiler
@needs_compiler
def test_a_table_with_room_left_is_a_problem() -> None:
    done = compile_masks((16, 128))
    assert done.returncode == 1
    for target in TARGETS:
        assert f"problem: nz_mask 256 for {target}: fits, but is not in the table" in done.stderr
