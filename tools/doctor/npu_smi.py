# SPDX-License-Identifier: Apache-2.0
"""Asks ``npu-smi``, which can hang for as long as a chip does, and reads its tables.

Formats seen in public reports: A2 and A3 with the columns AICore, Memory and HBM-Usage (A3 has a
Phy-ID beside the chip), 300I Duo with AICore and Memory-Usage only. The process table follows in
all of them.
"""

import re

from vllm_ascend_bringup.hardware import Chip, chip_named, unsupported_name
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import (
    Answer,
    Component,
    Firmware,
    Npu,
    NpuProcess,
    Unknown,
)
from vllm_ascend_bringup.tools.doctor.machine import Machine

NPU_SMI_SECONDS = 10.0

_VERSION = re.compile(r"\|\s*npu-smi\s+\S+\s+Version:\s*(\S+)")
_FIRST = re.compile(r"^(\d+)\s+(\S+)$")  # card, name
_SECOND = re.compile(r"^(\d+)(?:\s+\d+)?$")  # chip, and its number among all
_USAGE = re.compile(r"(\d+)\s*/\s*(\d+)")
_PLACE = re.compile(r"^(\d+)(?:\s+(\d+))?$")  # card, chip

ABSENT = Unknown(Text(
    "there is no npu-smi on PATH: run this on the machine with the NPUs, or mount npu-smi into the "
    "container",
    "PATH 中没有 npu-smi：请在装有 NPU 的机器上运行本命令，或将 npu-smi 挂载到容器中",
))  # fmt: skip
_UNREAD = Unknown(Text(
    "npu-smi info did not list any chip: run it by hand and look at what it says",
    "npu-smi info 没有列出任何芯片：请手动执行该命令并查看输出",
))  # fmt: skip


def ask(machine: Machine, *arguments: str) -> Answer | Unknown:
    """``npu-smi info`` with these arguments."""
    command = machine.which("npu-smi")
    if command is None:
        return ABSENT
    try:
        return machine.run([command, "info", *arguments], NPU_SMI_SECONDS)
    except OSError:
        return ABSENT


def read_npus(answer: Answer | Unknown) -> tuple[Npu, ...] | Unknown:
    """The chips of ``npu-smi info``: two lines each, of which the first names the card."""
    if isinstance(answer, Unknown):
        return answer
    npus: list[Npu] = []
    first: tuple[int, str, str] | None = None
    for line in answer.output.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 3:
            continue
        if first is None:
            if match := _FIRST.match(cells[0]):
                first = int(match[1]), match[2], cells[1]
        elif match := _SECOND.match(cells[0]):
            used, memory = (_USAGE.findall(cells[2]) or [("0", "0")])[-1]
            npus.append(Npu(first[0], int(match[1]), first[1], first[2], int(used), int(memory)))
            first = None
    return tuple(npus) or _UNREAD


def read_processes(answer: Answer | Unknown) -> tuple[NpuProcess, ...] | Unknown:
    """The table below the chips."""
    if isinstance(answer, Unknown):
        return answer
    if "Process id" not in answer.output:
        return _UNREAD
    found = []
    for line in answer.output.partition("Process id")[2].splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        place = _PLACE.match(cells[0])
        if place and len(cells) == 4 and cells[1].isdecimal() and cells[3].isdecimal():
            numbers = int(place[1]), int(place[2] or 0), int(cells[1])
            found.append(NpuProcess(*numbers, cells[2], int(cells[3])))
    return tuple(found)


def read_chip(npus: tuple[Npu, ...] | Unknown) -> Chip | Unknown:
    """The generation of the chips; that of a machine's first, all being alike."""
    if isinstance(npus, Unknown):
        return npus
    name = npus[0].name
    if unsupported_name(name):
        return Unknown(Text(
            f"what holds for {name} is not known: vllm-ascend does not support it",
            f"没有 {name} 的相关信息：vllm-ascend 不支持该芯片",
        ))  # fmt: skip
    return chip_named(name) or Unknown(Text(
        f"{name} is no chip that this project knows", f"本项目不认识芯片 {name}"
    ))  # fmt: skip


def read_driver(answer: Answer | Unknown) -> Component | None:
    """npu-smi has the version of the driver that it came with."""
    if isinstance(answer, Answer) and (match := _VERSION.search(answer.output)):
        return Component(match[1], "npu-smi info")
    return None


def read_firmware(answer: Answer | Unknown) -> Firmware | None:
    """From ``npu-smi info -t board -i CARD``."""
    if isinstance(answer, Unknown):
        return None
    lines = (line.partition(":") for line in answer.output.splitlines())
    rows = {name.strip(): value.strip() for name, _, value in lines}
    version = rows.get("Firmware Version")
    return Firmware(version, rows.get("Compatibility")) if version else None
