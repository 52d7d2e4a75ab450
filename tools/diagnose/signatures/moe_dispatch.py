# SPDX-License-Identifier: Apache-2.0
"""The dispatch or combine operator of expert parallelism fails."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="moe-dispatch",
    title=Text(
        "The MoE dispatch or combine operator fails under expert parallelism",
        "专家并行的 MoE dispatch/combine 算子失败",
    ),
    actions=(
        Text(
            "Raise HCCL_BUFFSIZE to what the message needs: it grows with tokens, hidden "
            "size and experts",
            "把 HCCL_BUFFSIZE 调到报错要求的值：它随 token 数、hidden size 和专家数增长",
        ),
        Text(
            "Lower --max-num-batched-tokens, or try without --enable-expert-parallel",
            "调小 --max-num-batched-tokens，或去掉 --enable-expert-parallel 验证",
        ),
        Text(
            "Check that every rank has the same expert count and that the chip supports "
            "this number of ranks",
            "确认各 rank 的专家数一致，且芯片支持该 rank 数",
        ),
    ),
    patterns=(
        Pattern("hccl_buffsize", r"HCCL_BUFFSIZE\w*( is)? too SMALL|NEEDED_HCCL_BUFFSIZE"),
        Pattern(
            "moedistribute", r"MoeDistribute(Dispatch|Combine)\w*.*(fail|error|exception|timeout)"
        ),
        Pattern(
            "moe_distribute",
            r"moe_distribute_(dispatch|combine)\w*.*(fail|error)|moe_distribute_(dispatch"
            r"|combine)\w*\.(cc|cpp)\b",
        ),
        # Queued operators are named late: this one may not be the one that failed.
        Pattern("moedistribute", r"operator name is \w*MoeDistribute", Says.WHAT),
        Pattern("dispatchffncombine", r"DispatchFFNCombine\w*.*(fail|error)"),
        Pattern("moe_init_routing", r"moe_init_routing\w*.*(fail|error code)", Says.WHAT),
    ),
)
