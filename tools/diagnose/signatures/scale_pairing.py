# SPDX-License-Identifier: Apache-2.0
"""A weight without its scale, a scale without its weight, or a wrong shape."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="scale-pairing",
    title=Text("Low-precision weights and scales do not pair", "低精度权重与缩放因子无法配对"),
    actions=(
        Text(
            "The message names tensor and shard: `bringup inspect MODEL` shows the same "
            "without loading",
            "报错中写明了张量和分片：`bringup inspect MODEL` 不加载权重即可复现",
        ),
        Text(
            "Download all shards again, or ask for a new export",
            "重新下载全部分片，或请发布者重新导出",
        ),
    ),
    patterns=(
        Pattern("formaterror", r"\bFormatError: "),
        Pattern("has no low-precision weight"),
        Pattern("does not fit weight", r"scale \S+ .*does not fit weight"),
    ),
)
