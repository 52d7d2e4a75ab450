# SPDX-License-Identifier: Apache-2.0
"""Compressed weights at another tensor-parallel size."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="w8a8sc-tp",
    title=Text(
        "Sharded weights do not belong to this tensor-parallel size", "分片权重与当前张量并行度不符"
    ),
    actions=(
        Text(
            "Serve with the tensor-parallel size that the weights were saved for, or save "
            "them again",
            "使用保存权重时的张量并行度，或重新保存权重",
        ),
        Text(
            "--load-format sharded_state only for such weights",
            "只有这类权重才使用 --load-format sharded_state",
        ),
    ),
    patterns=(
        Pattern("pre-sharded checkpoints"),
        Pattern("in loaded state", r"Missing keys .* in loaded state"),
    ),
)
