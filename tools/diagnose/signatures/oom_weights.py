# SPDX-License-Identifier: Apache-2.0
"""Memory runs out while parameters are created or loaded."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature
from vllm_ascend_bringup.tools.diagnose.context import LOADING, RUNNING, held_by_this_process

SIGNATURE = Signature(
    id="oom-weights",
    title=Text(
        "Device memory runs out while weights are created or loaded", "创建或加载权重时显存不足"
    ),
    actions=(
        Text(
            "Add up the weight bytes per card (`bringup plan MODEL`) and compare with the card",
            "计算每张卡的权重大小（`bringup plan MODEL`），与单卡显存对比",
        ),
        Text(
            "Raise tensor or expert parallelism, or take a quantized checkpoint",
            "增大张量并行或专家并行，或者使用量化权重",
        ),
    ),
    patterns=(
        # vLLM V0 names the method after the error.
        Pattern("executing method 'load_model'", near=r"\bout of memory"),
        Pattern(
            "out of memory",
            r"\bout of memory",
            near=LOADING,
            apart=RUNNING,
            when=held_by_this_process,
        ),
        Pattern(
            "allocate memory",
            r"Failed to allocate memory|Memory_Allocation_Failure|\bEL0004\b",
            near=LOADING,
            apart=RUNNING,
        ),
    ),
)
