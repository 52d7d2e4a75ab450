# SPDX-License-Identifier: Apache-2.0
"""A rank waited for another until the socket timed out."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="hccl-timeout",
    title=Text(
        "A rank waited for another one until the timeout", "某个 rank 等待其他 rank 直到超时"
    ),
    actions=(
        Text(
            "Find the rank that failed first: the ones that report the timeout only waited",
            "找到最先失败的 rank：上报超时的 rank 只是在等待",
        ),
        Text(
            "Check links and TLS between nodes: `hccn_tool -i <device> -tls -g`, `-link "
            "-g`, `-ping`",
            "检查节点间链路和 TLS：`hccn_tool -i <device> -tls -g`、`-link -g`、`-ping`",
        ),
        Text(
            "Raise HCCL_CONNECT_TIMEOUT or HCCL_EXEC_TIMEOUT only after that",
            "排查之后再考虑调大 HCCL_CONNECT_TIMEOUT 或 HCCL_EXEC_TIMEOUT",
        ),
    ),
    waits=True,
    patterns=(
        Pattern("collective operation timeout", says=Says.WHAT),
        Pattern("task timeout", r"hccl fftsplus task timeout|hccl \w+ task timeout", Says.WHAT),
        # HCCL_E_TIMEOUT.
        Pattern("error code is 9", r"HCCL function error.*error code is 9\b", Says.WHAT),
        Pattern("ei0006", r"\bEI0006\b", Says.WHAT),
        Pattern("socket times out", r"Getting socket times? ?out", Says.WHAT),
        Pattern("ei0002", r"\bEI0002\b", Says.WHAT),
        Pattern(
            "notify", r"(wait execution of the )?Notify (register|wait).*(times? ?out)", Says.WHAT
        ),
        Pattern("hcclret", r"HCCL.*(socket|recv|notify|wait).*(time ?out|timed out)", Says.WHAT),
        Pattern(
            "hccl", r"\[?HCCL\]?.*(connect|socket|exec\w*|notify) ?(wait )?time(d)? ?out", Says.WHAT
        ),
    ),
)
