# SPDX-License-Identifier: Apache-2.0
"""The port of the server is taken.

Signals: who listens on it in this network namespace, from /proc/net/tcp and the open files of the
processes. An earlier server that was not ended is the usual one.
Source: vllm-ascend's model adapter notes: free the port and start clean before changing any code.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Listener, Request
from vllm_ascend_bringup.tools.doctor.wording import holder


def _judge(listeners: tuple[Listener, ...], request: Request) -> Iterator[Judgement]:
    for listener in listeners:
        if listener.port == request.port:
            what = Text(f"who listens on port {request.port}", f"端口 {request.port} 的占用者")
            yield error(Evidence(what, holder(listener), Text("nobody", "无")), do=Text(
                "end it if it is a leftover of yours, or serve on another port with --port",
                "如果是自己遗留的进程，请将其结束；否则用 --port 换一个端口",
            ))  # fmt: skip


RULE = Rule("port-in-use", Text("port of the server", "服务端口"), _judge)
