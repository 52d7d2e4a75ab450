# SPDX-License-Identifier: Apache-2.0
"""There is too little free host memory for the weights: loading swaps, or the kernel ends it.

Signals: bytes of the weight files, free memory within the container's limit, machines.
Source: MindIE's FAQ: free memory of at least 1.3 times the weights, divided by the machines; below
the weights themselves it does not run.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Request
from vllm_ascend_bringup.tools.doctor.wording import size

_FACTOR = 1.3


def _judge(model: ModelFiles, memory: int, request: Request) -> Iterator[Judgement]:
    share = model.weights / request.nodes
    if memory >= share * _FACTOR:
        return
    severity = error if memory < share else warning
    wanted, weights = size(share * _FACTOR), size(model.weights)
    expected = Text(
        f"at least {wanted} ({weights} of weights / {request.nodes} x {_FACTOR})",
        f"不少于 {wanted}（权重 {weights} ÷ {request.nodes} × {_FACTOR}）",
    )
    what = Text("free host memory", "主机可用内存")
    yield severity(Evidence(what, size(memory), expected), do=Text(
        "end other processes, raise the container's memory limit, or serve on more machines "
        "(--nodes)",
        "请结束其他进程、提高容器的内存上限，或用更多机器部署（--nodes）",
    ))  # fmt: skip


RULE = Rule("host-memory", Text("host memory", "主机内存"), _judge)
