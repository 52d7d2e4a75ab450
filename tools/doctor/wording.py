# SPDX-License-Identifier: Apache-2.0
"""Words and sizes that several rules print."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import Listener

NOTHING = Text("nothing", "无")
LOADS = Text("it loads", "能够加载")
MIB, GIB = 1 << 20, 1 << 30


def size(count: float) -> str:
    """Bytes as MiB or GiB."""
    return f"{count / GIB:.2f} GiB" if count >= GIB else f"{count / MIB:.0f} MiB"


def joined(names: "list[str] | tuple[str, ...]", limit: int = 6) -> str | Text:
    """At most ``limit`` of them and how many more there are."""
    shown = ", ".join(names[:limit])
    rest = len(names) - limit
    return Text(f"{shown} and {rest} more", f"{shown} 等，另有 {rest} 个") if rest > 0 else shown


def holder(listener: Listener) -> Text:
    """Who has a port."""
    if listener.holder.pid is None:
        return Text(
            "a process of another user, or outside this container", "其他用户或容器外的进程"
        )
    pid, command = listener.holder.pid, listener.holder.command
    return Text(f"process {pid} ({command})", f"进程 {pid}（{command}）")
