# SPDX-License-Identifier: Apache-2.0
"""An MLA attention operator fails."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="mla-runtime",
    title=Text("The MLA attention operator fails", "MLA 注意力算子执行失败"),
    actions=(
        Text(
            "Reproduce with one short text request, then once with --enforce-eager",
            "用一个简短的文本请求复现，再用 --enforce-eager 复现一次",
        ),
        Text(
            "If it fails in both, it is the code path (MLA, rope, platform), not a flag",
            "如果两种方式都失败，问题在代码路径（MLA、rope、平台实现），而不是启动参数",
        ),
        Text(
            "If the message names the number of heads, choose a tensor-parallel size that leaves "
            "32, 64 or 128 heads per KV head on a rank, or serve with --enforce-eager",
            "如果报错涉及头数，调整张量并行度，使每个 rank 上每个 KV 头对应 32、64 或 128 个头，"
            "或使用 --enforce-eager",
        ),
    ),
    patterns=(
        Pattern("atbringmla", r"AtbRingMLA(GetWorkspaceSize)?\b"),
        # The plugin's own check, before the operator would refuse.
        Pattern("queries per kv", r"queries per kv .*\bMLA\b.*only support"),
        Pattern("ringmla", r"RingMLA\w*.*(fail|error)", Says.WHAT),
    ),
)
