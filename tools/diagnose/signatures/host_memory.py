# SPDX-License-Identifier: Apache-2.0
"""The host's memory runs out."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="host-memory",
    title=Text("The host runs out of memory", "主机内存不足"),
    actions=(
        Text(
            "Keep 1.3 times the weight bytes per machine free: `free -h`",
            "保证每台机器的空闲内存不少于该机权重大小的 1.3 倍：`free -h`",
        ),
        Text(
            "End leftovers and lower the number of loading threads", "结束残留进程，减少加载线程数"
        ),
    ),
    patterns=(
        Pattern("errno 12", r"\[Errno 12\] Cannot allocate memory"),
        Pattern("oom-kill", r"oom-kill|Out of memory: Killed process"),
        Pattern("defaultcpuallocator", r"DefaultCPUAllocator: (can't|not enough)"),
        Pattern("exit code -9", r"exit ?code:? -9|signal: 9|SIGKILL", Says.CODE),
        Pattern("bad_alloc", r"std::bad_alloc", Says.WHAT),
    ),
)
