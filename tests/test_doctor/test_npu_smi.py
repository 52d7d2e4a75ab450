# SPDX-License-Identifier: Apache-2.0
"""Reading npu-smi's tables: processes, full numbers, and what is no table at all."""

import pytest
from doctor_kit import MACHINES, RECORDED
from hypothesis import given
from hypothesis import strategies as st

from vllm_ascend_bringup.tools.doctor.facts import Answer, Firmware, NpuProcess, Unknown
from vllm_ascend_bringup.tools.doctor.npu_smi import (
    read_chip,
    read_driver,
    read_firmware,
    read_npus,
    read_processes,
)

EMPTY = "| No running processes found in NPU 0                                                            |"  # noqa: E501
BUSY = (
    "| 0       1                 | 12345         | VLLM::Worker             | 57123                   |\n"  # noqa: E501
    "| 0                         | 77            | python3                  | 110                     |"  # noqa: E501
)
PIECES = [
    "|",
    "\n",
    " ",
    "0",
    "910B3",
    "OK",
    "3405 / 65536",
    "/",
    "Process id",
    "NPU",
    "+---+",
    ":",
]


def recorded(name: str) -> str:
    return (RECORDED / name / "commands" / "npu-smi info.txt").read_text()


def answer(output: str) -> Answer:
    return Answer("npu-smi info", 0, output, 0.1)


def test_processes() -> None:
    read = read_processes(answer(recorded("a3").replace(EMPTY, BUSY)))
    assert read == (NpuProcess(0, 1, 12345, "VLLM::Worker", 57123),
                    NpuProcess(0, 0, 77, "python3", 110))  # fmt: skip


def test_numbers_that_fill_their_column() -> None:
    read = read_npus(answer(recorded("a2").replace("3405 / 65536", "57784/ 65536")))
    assert not isinstance(read, Unknown)
    assert (read[0].used_mib, read[0].memory_mib) == (57784, 65536)


def test_a_chip_without_memory_in_its_line() -> None:
    read = read_npus(answer(recorded("a2").replace("3405 / 65536", "NA          ")))
    assert not isinstance(read, Unknown)
    assert (read[0].used_mib, read[0].memory_mib) == (0, 0)


@pytest.mark.parametrize("name", MACHINES)
@pytest.mark.parametrize("part", [0.25, 0.5, 0.75])
def test_a_table_that_was_cut_off(name: str, part: float) -> None:
    whole = recorded(name)
    text = whole[: int(len(whole) * part)]
    complete, cut = read_npus(answer(whole)), read_npus(answer(text))
    assert not isinstance(complete, Unknown)
    if not isinstance(cut, Unknown):
        assert cut == complete[: len(cut)]


def test_firmware_and_driver() -> None:
    board = answer(
        "\tNPU ID  : 0\n\tFirmware Version   : 7.1.0.7.220\n\tCompatibility  : Warning\n"
    )
    assert read_firmware(board) == Firmware("7.1.0.7.220", "Warning")
    assert read_firmware(answer("Firmware Version : 7.1.0.7.220")) == Firmware("7.1.0.7.220", None)
    assert read_firmware(answer("no such card")) is None
    driver = read_driver(answer(recorded("a3")))
    assert driver is not None
    assert driver.version == "25.5.1"
    assert read_driver(answer("")) is None


def test_why_a_chip_is_not_known() -> None:
    for name, words in (("310B1", "does not support it"), ("970X", "no chip that this project")):
        chip = read_chip(read_npus(answer(recorded("a2").replace("910B3", name))))
        assert isinstance(chip, Unknown)
        assert words in chip.reason.en


@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join))
def test_no_text_is_too_strange(text: str) -> None:
    npus = read_npus(answer(text))
    read_processes(answer(text)), read_firmware(answer(text)), read_driver(answer(text))
    assert isinstance(read_chip(npus), Unknown) or not isinstance(npus, Unknown)
