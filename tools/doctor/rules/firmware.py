# SPDX-License-Identifier: Apache-2.0
"""Firmware and driver do not go together.

Signals: the line Compatibility of npu-smi info -t board, which the driver judges itself.
Source: outputs in the documentation of Ascend's fault diagnosis; OK where all is right.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Firmware

_FINE = ("OK", "NA")  # NA: this board does not say


def _judge(firmware: Firmware) -> Iterator[Judgement]:
    if firmware.compatible is None or firmware.compatible in _FINE:
        return
    what = Text(f"compatibility of firmware {firmware.version}",
                f"固件 {firmware.version} 的配套状态")  # fmt: skip
    yield warning(Evidence(what, firmware.compatible, "OK"), do=Text(
        "install driver and firmware of one HDK release, firmware first, and restart the machine",
        "请安装同一 HDK 版本的驱动和固件（先升级固件），然后重启机器",
    ))  # fmt: skip


RULE = Rule("firmware", Text("firmware", "固件"), _judge)
