# SPDX-License-Identifier: Apache-2.0
"""The chip is one that vllm-ascend does not support: 310B, or a 910 of the first generation.

Signals: the name that npu-smi gives it. An unknown name is a warning, because new ones appear.
Source: vllm-ascend's docs/source/faqs.md, supported devices.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.hardware import CHIPS, chip_named, unsupported_name
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import Npu

_TITLES = ", ".join(chip.title for chip in CHIPS.values())


def _judge(npus: tuple[Npu, ...]) -> Iterator[Judgement]:
    for name in sorted({npu.name for npu in npus}):
        evidence = Evidence(
            Text("name in npu-smi info", "npu-smi info 中的名称"), name,
            Text(f"a chip of {_TITLES}", f"{_TITLES} 中的一种"),
        )  # fmt: skip
        if unsupported_name(name):
            yield error(evidence, do=Text(
                "serve on another machine: neither vllm-ascend nor this plugin runs on it",
                "请换用其他机器：vllm-ascend 和本插件都不支持该芯片",
            ))  # fmt: skip
        elif chip_named(name) is None:
            yield warning(evidence, do=Text(
                "look it up in the supported devices of vllm-ascend's FAQ; rules about chips were "
                "left out",
                "请在 vllm-ascend 的 FAQ 中查找该芯片是否受支持；与芯片有关的检查已跳过",
            ))  # fmt: skip


RULE = Rule("device-unsupported", Text("supported chip", "芯片型号"), _judge)
