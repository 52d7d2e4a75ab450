# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend was built for another generation of chips than the one here.

Signals: the device type in its _build_info.py, against the chip that npu-smi names. It asserts that
they agree when the first worker starts.
Source: vllm-ascend's utils.py, check_ascend_device_type; wheels from PyPI are built for A2.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.hardware import Chip, chip_of
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import AscendSource


def _judge(chip: Chip, ascend: AscendSource) -> Iterator[Judgement]:
    if ascend.device_type is None or ascend.device_type == chip.device_type:
        return
    built = chip_of(ascend.device_type)
    found = built.title if built else ascend.device_type
    what = Text("vllm-ascend was built for", "vllm-ascend 的构建目标")
    yield error(Evidence(what, found, chip.title), do=Text(
        f"use vllm-ascend's image for {chip.title}, or build it from source on this machine",
        f"请使用 {chip.title} 对应的 vllm-ascend 镜像，或在本机从源码构建",
    ))  # fmt: skip


RULE = Rule("build-for-chip", Text("vllm-ascend against the chip", "vllm-ascend 与芯片"), _judge)
