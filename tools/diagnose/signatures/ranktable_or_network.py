# SPDX-License-Identifier: Apache-2.0
"""A wrong rank table, or nodes that do not reach each other."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="ranktable-or-network",
    title=Text(
        "The rank table is wrong, or nodes do not reach each other",
        "rank table 配置错误，或节点之间网络不通",
    ),
    actions=(
        Text(
            "Check server_id, device_ip and rank_id of the rank table on every node",
            "逐个节点检查 rank table 中的 server_id、device_ip 和 rank_id",
        ),
        Text(
            "Set GLOO_SOCKET_IFNAME, HCCL_IF_IP and HCCL_SOCKET_IFNAME to the interface of "
            "that network",
            "把 GLOO_SOCKET_IFNAME、HCCL_IF_IP 和 HCCL_SOCKET_IFNAME 设为该网络的网卡",
        ),
        Text(
            "Try the port of the first node from the others, and the links with `hccn_tool`",
            "从其他节点测试主节点端口，并用 `hccn_tool` 检查链路",
        ),
    ),
    patterns=(
        Pattern("distnetworkerror", says=Says.CODE),
        Pattern("ej0002", r"\bEJ0002\b"),
        Pattern("network port is down"),
        Pattern(
            "[c10d]", r"\[c10d\].*socket.*(timed out|failed to connect)", Says.WHAT, warns=True
        ),
        Pattern(
            "ranktable",
            r"ranktable\w*.*(invalid|fail|error|not (exist|found|match)|wrong|校验|错误|失败)",
        ),
        Pattern(
            "rank table",
            r"rank table.*(invalid|fail|error|not (exist|found|match)|wrong|校验|错误|失败)",
        ),
        Pattern("device_ip", r"'?device_ip'? is not set", Says.WHAT),
        Pattern("gcs", r"Failed to connect to GCS|GCS to become available", Says.WHAT),
        Pattern("gloo::enforcenotmet", says=Says.GUESS),
        Pattern("diststoreerror", says=Says.GUESS),
        Pattern("ei0004", r"\bEI0004\b"),
        Pattern("ei0014", r"\bEI0014\b"),
        Pattern("ei0013", r"\bEI0013\b", Says.WHAT),
        Pattern("client socket has", r"client socket has (timed out|failed to connect)", Says.WHAT),
        Pattern("clients joined", r"Timed out after \d+ seconds waiting for clients", Says.WHAT),
        Pattern(
            "gloo",
            r"gloo.*(Unable to (resolve|find)|Connection refused|connect.*(fail|timeout"
            r"|timed out)|no route)|ifa != nullptr",
            Says.WHAT,
        ),
        Pattern("unable to find address for", says=Says.WHAT),
        Pattern("no route to host", says=Says.WHAT),
        Pattern("link down", r"(npu|roce|network|device|port)\b.*link down", Says.WHAT),
    ),
)
