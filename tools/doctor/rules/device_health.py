# SPDX-License-Identifier: Apache-2.0
"""A chip reports a fault.

Signals: the column Health of npu-smi info: OK, Warning, Alarm, Critical or UNKNOWN.
Source: npu-smi's reference; a chip that is not OK fails later as an asynchronous device fault.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import Npu


def _judge(npus: tuple[Npu, ...]) -> Iterator[Judgement]:
    for npu in npus:
        if npu.health == "OK":
            continue
        severity = warning if npu.health == "Warning" else error
        where = Text(f"health of NPU {npu.card} chip {npu.chip}",
                     f"NPU {npu.card} 芯片 {npu.chip} 的健康状态")  # fmt: skip
        yield severity(Evidence(where, npu.health, "OK"), do=Text(
            f"npu-smi info -t health -i {npu.card} -c {npu.chip} names the fault; leave the chip "
            "out with ASCEND_RT_VISIBLE_DEVICES until it is repaired",
            f"执行 npu-smi info -t health -i {npu.card} -c {npu.chip} 查看具体故障；"
            "修复之前用 ASCEND_RT_VISIBLE_DEVICES 避开该芯片",
        ))  # fmt: skip


RULE = Rule("device-health", Text("health of the chips", "芯片健康状态"), _judge)
