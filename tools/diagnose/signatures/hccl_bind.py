# SPDX-License-Identifier: Apache-2.0
"""HCCL cannot bind its listen port."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="hccl-bind",
    title=Text("HCCL cannot bind its listening port", "HCCL 无法绑定监听端口"),
    actions=(
        Text(
            "Find the other job on these cards, often a leftover of your own, and end it",
            "找到占用这些卡的其他任务（常是自己残留的进程）并结束",
        ),
        Text(
            "Give each job its own range: HCCL_NPU_SOCKET_PORT_RANGE, "
            "HCCL_HOST_SOCKET_PORT_RANGE, HCCL_IF_BASE_PORT",
            "为每个任务设置独立的端口范围：HCCL_NPU_SOCKET_PORT_RANGE、"
            "HCCL_HOST_SOCKET_PORT_RANGE、HCCL_IF_BASE_PORT",
        ),
    ),
    patterns=(
        Pattern("ej0003", r"\bEJ0003\b"),
        Pattern("bind_ip_port"),
        Pattern(
            "bind the ip port", r"Failed to bind the IP port|IP address and port have been bound"
        ),
        Pattern("ei0020", r"\bEI0020\b"),
        Pattern("ei0019", r"\bEI0019\b", Says.WHAT),
        Pattern("hccl", r"HCCL.*(listen|bind).*(port|socket).*fail|HCCL.*socket.*bind.*fail"),
    ),
)
