# SPDX-License-Identifier: Apache-2.0
"""Ports that HCCL will bind on the host are taken, which ends in EJ0003.

Signals: HCCL_IF_BASE_PORT (60000 unless set) and the 15 ports above it, against who listens; left
out where HCCL_HOST_SOCKET_PORT_RANGE says otherwise, and for a single rank.
Source: CANN's reference of both variables.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Listener, Request
from vllm_ascend_bringup.tools.doctor.wording import holder

_DEFAULT, _COUNT = 60000, 16


def _judge(
    listeners: tuple[Listener, ...], environ: Mapping[str, str], request: Request
) -> Iterator[Judgement]:
    stated = environ.get("HCCL_IF_BASE_PORT", str(_DEFAULT))
    if request.tp == 1 or "HCCL_HOST_SOCKET_PORT_RANGE" in environ or not stated.isdecimal():
        return
    first = int(stated)
    last = first + _COUNT - 1
    taken = [listener for listener in listeners if first <= listener.port <= last]
    if taken:
        free = Text(f"free: HCCL uses {first} to {last}", f"空闲（HCCL 使用 {first} 到 {last}）")
        rows = (
            Evidence(Text(f"port {found.port}", f"端口 {found.port}"), holder(found), free)
            for found in taken
        )
        yield warning(*rows, do=Text(
            "end the other job if it is yours, or give this one a range of its own: export "
            "HCCL_IF_BASE_PORT=<first port>",
            "如果是自己的任务，请将其结束；否则用 export HCCL_IF_BASE_PORT=<起始端口> 另选一段端口",
        ))  # fmt: skip


RULE = Rule("hccl-ports", Text("HCCL's ports", "HCCL 端口"), _judge)
