# SPDX-License-Identifier: Apache-2.0
"""Another process holds memory of a chip: vLLM will find less than it counts on.

Signals: the process table of npu-smi info. vLLM takes its share of what is free when it starts, so
a leftover of an earlier run ends in an out-of-memory error or in a small KV cache.
Source: reports of vllm-ascend's users; npu-smi's reference for the table.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import NpuProcess
from vllm_ascend_bringup.tools.doctor.wording import NOTHING


def _judge(npu_processes: tuple[NpuProcess, ...]) -> Iterator[Judgement]:
    if not npu_processes:
        return
    rows = [
        Evidence(
            Text(f"on NPU {p.card} chip {p.chip}", f"NPU {p.card} 芯片 {p.chip} 上"),
            Text(f"process {p.pid} ({p.name}) with {p.used_mib} MiB",
                 f"进程 {p.pid}（{p.name}）占用 {p.used_mib} MiB"), NOTHING,
        )
        for p in npu_processes
    ]  # fmt: skip
    yield warning(*rows, do=Text(
        "end those that are leftovers of yours, or choose other chips with "
        "ASCEND_RT_VISIBLE_DEVICES; in a container the numbers are the host's",
        "如果是自己遗留的进程，请将其结束；否则用 ASCEND_RT_VISIBLE_DEVICES 选择其他芯片；"
        "在容器中看到的是宿主机的进程号",
    ))  # fmt: skip


RULE = Rule("device-busy", Text("memory of the chips in use", "芯片显存占用"), _judge)
