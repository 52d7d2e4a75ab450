# SPDX-License-Identifier: Apache-2.0
"""The module torch.npu: one device, which is the CPU and does everything in the order it is told.

What vLLM-Ascend's Python asks for and has an answer here; anything else is an AttributeError.
"""

from typing import NoReturn

import torch
from torch.cpu import (  # noqa: F401
    Event,
    Stream,
    current_stream,
    device_count,
    is_available,
    set_device,
    stream,
    synchronize,
)

from vllm_ascend_bringup.hardware import CHIPS, Chip

_chip = CHIPS["310p"]


def emulate(chip: Chip) -> None:
    """Be this chip from now on."""
    global _chip
    _chip = chip


def chip() -> Chip:
    """The chip that is emulated."""
    return _chip


def get_soc_version() -> int:
    """A number by which vLLM-Ascend tells its chips apart."""
    return _chip.socs[0]


def get_device_name(device: "torch.device | int | None" = None) -> str:
    """For messages; no NPU is called so."""
    return f"emulated {_chip.title}"


def _is_in_bad_fork() -> bool:
    """torch.manual_seed asks before it seeds a device."""
    return False


def manual_seed_all(seed: int) -> None:
    """torch.manual_seed has seeded the CPU already."""


def empty_cache() -> None:
    """Of memory that is kept for later there is none."""


def _refused(name: str) -> type:
    """What must exist when vLLM-Ascend is imported; a class, because some are annotations."""

    def refuse(cls: type, *arguments: object, **options: object) -> NoReturn:
        raise NotImplementedError(f"torch.npu.{name}: not emulated")

    return type(name, (), {"__new__": refuse})


NPUGraph = _refused("NPUGraph")
ExternalEvent = _refused("ExternalEvent")
memory_stats = _refused("memory_stats")
memory_reserved = _refused("memory_reserved")
reset_peak_memory_stats = _refused("reset_peak_memory_stats")
mem_get_info = _refused("mem_get_info")
