# SPDX-License-Identifier: Apache-2.0
"""Weights that were never filled."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="meta-tensor",
    title=Text(
        "A tensor without data is copied: a consequence of an earlier change",
        "拷贝了没有数据的张量，属于前面改动的连带后果",
    ),
    actions=(
        Text(
            "Go back to the first failure, before the text-only start or the other work-around",
            "回到最初的故障，即使用纯文本启动等规避手段之前",
        ),
    ),
    patterns=(Pattern("copy out of meta tensor", says=Says.CODE),),
)
