# SPDX-License-Identifier: Apache-2.0
"""flashcomm1 or MTP where the model or layout does not take it."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="flashcomm-mtp",
    title=Text(
        "flashcomm1 or MTP does not apply to this model or layout",
        "flashcomm1 或 MTP 不适用于该模型或并行方式",
    ),
    actions=(
        Text(
            "flashcomm1 is for MoE models with tensor parallelism; MTP needs its config "
            "and its weights (mtp or nextn keys)",
            "flashcomm1 用于带张量并行的 MoE 模型；MTP 需要配置和权重（mtp 或 nextn 键）",
        ),
    ),
    patterns=(
        Pattern(
            "flashcomm", r"(Error|Exception): .*flash_?comm\w*.*(only|not|should|must|divisible)"
        ),
        Pattern("flash comm", r"(Error|Exception): .*flash comm\w*.*(only|not|should|must)"),
        Pattern(
            "mtp",
            r"(Error|Exception): .*\bmtp\b.*(not (found|exist|support)|missing|only support)",
            Says.WHAT,
        ),
    ),
)
