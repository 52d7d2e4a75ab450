# SPDX-License-Identifier: Apache-2.0
"""An ATB operator says no more than that its set-up failed."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="op-setup-failed",
    title=Text("An ATB operator reports only that its setup failed", "ATB 算子只报告 setup failed"),
    actions=(
        Text(
            "Read the ATB log (ASDOPS_LOG_LEVEL=ERROR ASDOPS_LOG_TO_STDOUT=1, or "
            "~/atb/log) for the operator and its reason",
            "查看 ATB 日志（ASDOPS_LOG_LEVEL=ERROR ASDOPS_LOG_TO_STDOUT=1，或 "
            "~/atb/log）中的算子和原因",
        ),
        Text(
            "Check that the build is for this SoC, and the dtype: 310P takes no bfloat16",
            "确认构建对应本机芯片，并检查数据类型：310P 不支持 bfloat16",
        ),
    ),
    patterns=(
        Pattern("setup failed", r"\bsetup failed\b", Says.WHAT),
        Pattern("setup check fail", says=Says.WHAT),
        Pattern("setup fail", r"(operation|atb|graph)\w* ?setup fail|_graph setup fail", Says.WHAT),
    ),
)
