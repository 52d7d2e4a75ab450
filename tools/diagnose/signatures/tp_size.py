# SPDX-License-Identifier: Apache-2.0
"""The tensor-parallel size does not divide the model."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="tp-size",
    title=Text(
        "The tensor-parallel size does not divide the model", "张量并行度不能整除模型的维度"
    ),
    actions=(
        Text(
            "`bringup inspect MODEL --tp N` lists the sizes that fit",
            "`bringup inspect MODEL --tp N` 会列出可用的并行度",
        ),
    ),
    patterns=(
        Pattern("divisible by tensor parallel size", r"must be divisible by tensor parallel size"),
        Pattern("evenly divided by tp", r"cannot be evenly divided by TP"),
        Pattern(
            "assert ",
            r"^\s*assert .*% *(self\.)?(tp_size|tensor_parallel_size|world_size) == 0",
            Says.WHAT,
        ),
        Pattern("is not divisible by", r"AssertionError: \d+ is not divisible by \d+"),
    ),
)
