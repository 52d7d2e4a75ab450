# SPDX-License-Identifier: Apache-2.0
"""Fp8 where the chip has none."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

_FP8 = r"(torch\.|DT_|hi)?(float8|fp8)\w*"
_NOT = r"(not (been |yet |currently )*(support|implement)\w*|unsupported)"
_REFUSED = (
    rf"(Error|\)|type|what\(\))\W.{{0,40}}\b{_FP8}\W.{{0,40}}\b{_NOT}"
    rf"|{_NOT} .{{0,40}}\b(dtype|data type|type|format)\b.{{0,20}}\b{_FP8}"
)

SIGNATURE = Signature(
    id="fp8-unsupported",
    title=Text(
        "Fp8 is used on a chip that does not compute in it",
        "芯片不支持 fp8 计算，但当前配置使用了 fp8",
    ),
    actions=(
        Text(
            "Never force fp8 execution on A2, A3 or 310P: decode the weights at load (this "
            "plugin) or with `bringup convert`",
            "A2、A3、310P 上不要强行以 fp8 执行：在加载时反量化（本插件），或用 `bringup "
            "convert` 转换",
        ),
        Text(
            "Take out --quantization fp8 and --kv-cache-dtype fp8",
            "去掉 --quantization fp8 和 --kv-cache-dtype fp8",
        ),
    ),
    patterns=(
        Pattern(
            "fp8",
            r"fp8\w* quantization is currently not supported|fp8.*(is"
            r"|are) not supported (on|in|by) .*(npu|ascend|device|platform)",
        ),
        Pattern("fp8", _REFUSED),
        Pattern("float8", _REFUSED),
        Pattern(
            "float8",
            r"(not implemented for|not support\w*|unsupported).*(DT_)?float8_?\w*"
            r"|(DT_)?float8_?\w*.*(not implemented|not support\w*|unsupported"
            r"|has no attribute)",
        ),
    ),
)
