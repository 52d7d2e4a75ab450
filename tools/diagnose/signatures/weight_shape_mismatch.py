# SPDX-License-Identifier: Apache-2.0
"""A shard that does not fit its parameter."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.context import LOADING, RUNNING

SIGNATURE = Signature(
    id="weight-shape-mismatch",
    title=Text("A weight's shape does not fit the parameter", "权重的形状与模型参数不一致"),
    actions=(
        Text(
            "Compare the shape with the quantization description: packed weights have another one",
            "对照量化描述检查形状，打包的量化权重形状会不同",
        ),
        Text(
            "Check the scheme and the tensor-parallel degree: `bringup inspect MODEL --tp N`",
            "检查量化方案和张量并行度：`bringup inspect MODEL --tp N`",
        ),
    ),
    patterns=(
        Pattern(
            "shape",
            r"(shape mismatch|mismatched shape|doesn't match the broadcast shape)",
            Says.WHAT,
            near=LOADING,
            apart=RUNNING,
        ),
        Pattern(
            "assertionerror",
            r"^AssertionError\b",
            Says.GUESS,
            near=r"\b\w*weight_loader\w*\b|\bload_(column|row|merged|qkv)\w*",
            apart=RUNNING,
        ),
        Pattern(
            "exceeds dimension size", r"start \(\d+\) \+ length \(\d+\) exceeds dimension size"
        ),
        Pattern("loaded_weight", r"assert .*(shape|size\(\)) == loaded_weight\.(shape|size)"),
        Pattern("attempted to load weight", r"Attempted to load weight \(.*into parameter"),
        Pattern("tried to load weights of size"),
        Pattern("copying a param with shape", r"size mismatch for .*copying a param with shape"),
        Pattern(
            "must match",
            r"size of tensor a \(\d+\) must match the size of tensor b"
            r"|expanded size of the tensor .* must match",
            near=LOADING,
            apart=RUNNING,
        ),
        Pattern(
            "invalid for input of size",
            r"shape '\[.*\]' is invalid for input of size",
            near=LOADING,
            apart=RUNNING,
        ),
    ),
)
