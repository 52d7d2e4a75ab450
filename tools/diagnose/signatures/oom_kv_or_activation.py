# SPDX-License-Identifier: Apache-2.0
"""Memory runs out in profiling, masks, routing, towers or the KV cache."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.context import LOADING, RUNNING, held_by_this_process

SIGNATURE = Signature(
    id="oom-kv-or-activation",
    title=Text(
        "Device memory runs out for activations, masks or the KV cache",
        "激活、掩码或 KV cache 占用导致显存不足",
    ),
    actions=(
        Text(
            "Lower --max-model-len, --max-num-batched-tokens and --max-num-seqs",
            "调小 --max-model-len、--max-num-batched-tokens 和 --max-num-seqs",
        ),
        Text(
            "Lower --gpu-memory-utilization when an operator's workspace runs out; raise "
            "it when no KV block is left",
            "算子工作空间不足时调小 --gpu-memory-utilization；没有剩余 KV block 时调大",
        ),
        Text(
            "Set PYTORCH_NPU_ALLOC_CONF=expandable_segments:True against fragmentation",
            "设置 PYTORCH_NPU_ALLOC_CONF=expandable_segments:True 以减少碎片",
        ),
        Text(
            "MindIE: check npuMemSize, NPU_MEMORY_FRACTION, maxPrefillTokens and maxSeqLen",
            "MindIE：检查 npuMemSize、NPU_MEMORY_FRACTION、maxPrefillTokens 和 maxSeqLen",
        ),
    ),
    patterns=(
        Pattern("memalloc", r"(hal|dev|device)Mem\w*Alloc\w*.*(fail|out of memory)", Says.WHAT),
        Pattern("out of memory", r"\bout of memory", when=held_by_this_process, near=RUNNING),
        Pattern(
            "out of memory", r"\bout of memory", Says.WHAT, when=held_by_this_process, apart=LOADING
        ),
        Pattern("allocate memory", r"Failed to allocate memory|Memory_Allocation_Failure"),
        Pattern("el0004", r"\bEL0004\b"),
        Pattern("available memory for the cache blocks"),
        Pattern(
            "available memory", r"Available memory: (0|-\d+), total memory", Says.WHAT, notes=True
        ),
        Pattern("kv cache memory", r"Available KV cache memory: -\d", Says.WHAT, notes=True),
        Pattern("error code is 207001", r"error code is 207001\b", Says.WHAT),
        Pattern(
            "malloc",
            r"(rtMalloc|aclrtMalloc|MallocPhysical|malloc (device|hbm) memory).*(fail"
            r"|error code)",
            Says.WHAT,
        ),
        Pattern("显存不足", r"显存不足|内存不足.*(NPU|HBM)"),
    ),
)
