# SPDX-License-Identifier: Apache-2.0
"""A server runs already, or parts of one that was not ended cleanly.

Signals: processes whose command line is vllm serve or vLLM's own name for its processes, such as
VLLM::EngineCore. A worker that outlived its server holds memory of the NPU and HCCL's ports.
Source: vllm-ascend's model adapter notes; vLLM's set_process_title.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Process
from vllm_ascend_bringup.tools.doctor.wording import NOTHING


def _judge(servers: tuple[Process, ...]) -> Iterator[Judgement]:
    if not servers:
        return
    rows = (
        Evidence(Text(f"process {server.pid}", f"进程 {server.pid}"), server.command, NOTHING)
        for server in servers
    )
    numbers = " ".join(str(server.pid) for server in servers)
    yield warning(*rows, do=Text(
        f"if nobody needs them: kill {numbers} (nothing was ended here)",
        f"确认无人使用后执行 kill {numbers}（本命令不会结束任何进程）",
    ))  # fmt: skip


RULE = Rule("stale-server", Text("servers that run already", "已在运行的服务"), _judge)
