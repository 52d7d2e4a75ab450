# SPDX-License-Identifier: Apache-2.0
"""The device is full, but not by this process."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature
from vllm_ascend_bringup.tools.diagnose.context import held_by_others

SIGNATURE = Signature(
    id="oom-device-busy",
    title=Text("The device's memory is held by another process", "设备显存被其他进程占用"),
    actions=(
        Text("Look at the process table of `npu-smi info`", "查看 `npu-smi info` 的进程列表"),
        Text(
            "End what is left of your own earlier runs, or choose other cards with "
            "ASCEND_RT_VISIBLE_DEVICES",
            "结束自己之前残留的进程，或用 ASCEND_RT_VISIBLE_DEVICES 换其他卡",
        ),
    ),
    patterns=(
        Pattern("free memory on device", r"Free memory on device .*less than desired"),
        Pattern("error in memory profiling", r"Error in memory profiling\. .*free memory"),
        Pattern("out of memory", r"\bout of memory", when=held_by_others),
    ),
)
