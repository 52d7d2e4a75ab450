# SPDX-License-Identifier: Apache-2.0
"""Something that the chip does not do."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="platform-limit",
    title=Text(
        "The chip does not do what the model or the options ask", "芯片不支持模型或参数要求的功能"
    ),
    actions=(
        Text(
            "The message names the limit; choose another option or chip",
            "报错中写明了限制，请更换参数或芯片",
        ),
    ),
    patterns=(Pattern("platformerror", r"\bPlatformError: "),),
)
