# SPDX-License-Identifier: Apache-2.0
"""The norm of Q or K does not fit the heads of a rank."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="qk-norm-shape",
    title=Text(
        "The norm of Q or K does not fit the heads of this rank", "Q/K 归一化与该 rank 的头数不一致"
    ),
    actions=(
        Text(
            "`bringup inspect MODEL --tp N` says which sizes are clean; the plugin "
            "replicates shared KV heads",
            "`bringup inspect MODEL --tp N` 会给出可用的并行度；本插件会处理复制的 KV 头",
        ),
        Text(
            "With more ranks than KV heads each rank needs the slice of its own KV head",
            "rank 数多于 KV 头数时，每个 rank 要取自己那个 KV 头的部分",
        ),
    ),
    patterns=(
        Pattern(
            "must match",
            r"size of tensor a \(\d+\) must match the size of tensor b"
            r"|expanded size of the tensor",
            near=r"\b[qk]_(layer)?norm\b|qk_norm|rms_?norm",
        ),
        Pattern(
            "error:",
            r"^(Value|Runtime|Assertion)Error: .*\b(size|shape|dimension|elements)\b",
            near=r"\bself\.[qk]_(layer)?norm\(",
        ),
        Pattern(
            "exceeds dimension size", r"exceeds dimension size", near=r"[qk]_(layer)?norm\b|qk_norm"
        ),
        Pattern(
            "normalized_shape",
            r"normalized_shape.*(\[\d+\]).*(input|shape)",
            near=r"[qk]_(layer)?norm\b|qk_norm",
        ),
    ),
)
