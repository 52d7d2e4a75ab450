# SPDX-License-Identifier: Apache-2.0
"""The table of chips, and that asking for it costs nothing."""

import subprocess
import sys

import pytest

from vllm_ascend_bringup.hardware import (
    CHIPS,
    chip_named,
    chip_of,
    installed_chip,
    unsupported_name,
)
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT


def test_every_chip_is_found_by_its_id_and_by_its_device_type() -> None:
    assert {chip.id: chip for chip in CHIPS.values()} == dict(CHIPS)
    for chip in CHIPS.values():
        assert chip_of(chip.device_type) is chip
    for field in ("title", "device_type"):
        assert len({getattr(chip, field) for chip in CHIPS.values()}) == len(CHIPS)


def test_a_device_type_that_is_not_in_the_table_is_no_chip() -> None:
    assert chip_of("A6") is None


@pytest.mark.parametrize(
    ("name", "id_"),
    [
        ("910B1", "a2"), ("910B4-1", "a2"), ("Ascend910B3", "a2"), ("A2G3", "a2"),
        ("Ascend910", "a3"), ("910_9391", "a3"), ("310P3", "310p"), ("Ascend310P1", "310p"),
        ("Ascend950PR", "950"),
    ],
)  # fmt: skip
def test_what_npu_smi_calls_a_chip(name: str, id_: str) -> None:
    assert chip_named(name) is CHIPS[id_]
    assert not unsupported_name(name)


@pytest.mark.parametrize("name", ["910", "910A", "910B", "Ascend910B", "910ProB", "310", "310B4"])
def test_what_npu_smi_calls_an_unsupported_chip(name: str) -> None:
    assert chip_named(name) is None
    assert unsupported_name(name)
    assert not unsupported_name("970")


def test_what_chips_serve_in_and_execute() -> None:
    assert CHIPS["310p"].dtypes == ("float16",)
    assert all("float16" in chip.dtypes for chip in CHIPS.values())
    assert all("int8" in chip.executes for chip in CHIPS.values())
    floats = {"fp8", "mxfp8", "mxfp4"}
    assert {chip.id for chip in CHIPS.values() if chip.executes & floats} == {"950"}
    assert {chip.id for chip in CHIPS.values() if chip.triton_target} == {"a2", "a3"}


def test_a_number_of_torch_npu_is_one_chip() -> None:
    numbers = [number for chip in CHIPS.values() for number in chip.socs]
    assert len(set(numbers)) == len(numbers) > 0


def test_no_chip_is_installed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CPU_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    assert installed_chip() is None


@pytest.mark.parametrize("module", ["hardware", "native"])
def test_importing_it_loads_neither_torch_nor_vllm(module: str) -> None:
    code = (
        f"import sys, vllm_ascend_bringup.{module}\n"
        "print(*sorted({'torch', 'vllm', 'vllm_ascend', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
