# SPDX-License-Identifier: Apache-2.0
"""MLA in graph mode with a head count the operator does not take."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="mla-graph-ratio",
    title=Text(
        "MLA in graph mode does not take this number of heads per rank",
        "图模式下 MLA 不支持当前每个 rank 的头数",
    ),
    actions=(
        Text(
            "Choose a tensor-parallel size that leaves 32, 64 or 128 heads per KV head on a rank",
            "调整张量并行度，使每个 rank 上每个 KV 头对应 32、64 或 128 个头",
        ),
        Text("Otherwise serve with --enforce-eager", "否则使用 --enforce-eager"),
    ),
    patterns=(
        Pattern("mla only support", r"MLA only supports? \{?\(?32"),
        Pattern("checkmlaattrs"),
        Pattern("numheads", r"(numHeads|numHeads / numKvHeads).*MLA.*(32|64|128)"),
    ),
)
