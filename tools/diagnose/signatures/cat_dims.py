# SPDX-License-Identifier: Apache-2.0
"""A dimension of size one was squeezed before a concatenation."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="cat-dims",
    title=Text(
        "A dimension of size one was lost before a concatenation", "拼接之前丢失了大小为 1 的维度"
    ),
    actions=(
        Text(
            "Keep the dimension: squeeze() drops it when it is one; MindIE 2.0 has the fix "
            "for Qwen2-VL",
            "保留该维度：squeeze() 会去掉大小为 1 的维度；MindIE 2.0 已修复 Qwen2-VL 的问题",
        ),
    ),
    patterns=(Pattern("dimnum of tensor", r"dim ?num of tensor \d+ is \[1\]"),),
)
