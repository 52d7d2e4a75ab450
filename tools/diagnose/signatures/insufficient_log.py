# SPDX-License-Identifier: Apache-2.0
"""The excerpt ends before its cause, or shows none."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="insufficient-log",
    title=Text("The log ends before the cause of the failure", "日志中没有包含失败的根因"),
    actions=(
        Text(
            "Give the lines above the first «failed to start» or «died unexpectedly», from "
            "every rank",
            "提供第一处 failed to start 或 died unexpectedly 之前的日志，包括所有 rank",
        ),
        Text(
            "Run again with ASCEND_LAUNCH_BLOCKING=1 and --enforce-eager, so that the "
            "failing operator is the one in the traceback",
            "设置 ASCEND_LAUNCH_BLOCKING=1 和 --enforce-eager 重跑，使 traceback "
            "指向真正出错的算子",
        ),
        Text(
            "Add the device log (~/ascend/log) and `npu-smi info` of the same moment",
            "附上同一时刻的设备日志（~/ascend/log）和 `npu-smi info` 输出",
        ),
    ),
    patterns=(
        Pattern("inner error happened", says=Says.ECHO),
        Pattern("inner error is reported as above", says=Says.ECHO),
        Pattern("core initialization failed", says=Says.ECHO),
        Pattern("failed to start", says=Says.ECHO),
        Pattern("died unexpectedly", says=Says.ECHO),
        Pattern(
            "root cause",
            r"see (the )?(root cause|stack trace) above|stack trace above for the root cause",
            Says.ECHO,
        ),
        Pattern("err99999", says=Says.ECHO),
        Pattern("pta call acl api failed", says=Says.ECHO),
        Pattern("startup failed", says=Says.ECHO),
        # The last line of any traceback.
        Pattern(
            "error:", r"^\s*(E\s+)?[\w.]*(Error|Exception|Exit|Interrupt)\b( exit)?:", Says.ECHO
        ),
        Pattern("exception:", r"^\s*(E\s+)?[\w.]*Exception\b:", Says.ECHO),
        Pattern("traceback (most recent call last)", r"^\s*Traceback \(most recent", Says.ECHO),
        Pattern("assertionerror", r"^\s*AssertionError\s*$", Says.ECHO),
        Pattern("rtserror", says=Says.ECHO),
    ),
)
