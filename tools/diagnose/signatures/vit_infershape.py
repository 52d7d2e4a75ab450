# SPDX-License-Identifier: Apache-2.0
"""The vision graph's shapes cannot be inferred."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="vit-infershape",
    title=Text("The vision tower's graph cannot infer its shapes", "视觉部分的图推导形状失败"),
    actions=(
        Text(
            "Check that this MindIE version supports the model on this chip",
            "确认该 MindIE 版本在本机芯片上支持该模型",
        ),
        Text(
            "Lower maxPrefillTokens: the input may be too large",
            "调小 maxPrefillTokens：输入可能过大",
        ),
    ),
    patterns=(
        Pattern("infershape", r"VIT\w*(graph|layer).*infershape +fail"),
        Pattern("infer shape", r"VIT\w*(graph|layer).*infer shape +fail"),
    ),
)
