# SPDX-License-Identifier: Apache-2.0
"""bfloat16 on a chip without it."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="dtype-310p",
    title=Text(
        "bfloat16 on a chip that has none (310P and the first 910)",
        "芯片不支持 bfloat16（310P 和初代 910）",
    ),
    actions=(
        Text("Serve with --dtype float16", "启动时加上 --dtype float16"),
        Text(
            "If the message stays, look for an operator or collective with its own "
            "bfloat16 in the path",
            "如果仍然报错，检查路径中是否有算子或集合通信自行使用 bfloat16",
        ),
    ),
    patterns=(
        Pattern(
            "bf16",
            r"(can ?not|not|doesn't|don't|un)\s?support\w*\W.{0,40}\bbf16"
            r"|\bbf16\b.{0,60}(not|un)\s?support",
        ),
        Pattern(
            "bfloat16",
            r"not implemented for (DT_)?BFLOAT16|(310P|910A|Ascend310)\w*.*bfloat16.*(not"
            r"|only)|bfloat16.*(not|un) ?support\w*.*(310P|910A|Ascend310)",
        ),
        Pattern("bfloat16", r"dtype or format is not supported.*BFLOAT16"),
        Pattern(
            "bfloat16",
            r"(?<!\")\bbfloat16\b.{0,40}\b(is )?(not|un) ?supported|(not"
            r"|un) ?support\w* .{0,30}\bbfloat16\b",
            Says.WHAT,
        ),
    ),
)
