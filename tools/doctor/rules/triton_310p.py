# SPDX-License-Identifier: Apache-2.0
"""Triton, or what an uninstalled one left behind, on a 310P, which has no Triton.

Signals: folders and metadata of triton or triton_ascend where Python looks. vLLM takes its presence
for support. Installing vllm or vllm-ascend from source brings it back.
Source: vllm-ascend's tutorial of the Atlas 300I Duo.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.hardware import CHIPS, Chip
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.wording import NOTHING, joined


def _judge(chip: Chip, triton: tuple[str, ...]) -> Iterator[Judgement]:
    if chip is not CHIPS["310p"] or not triton:
        return
    what = Text("Triton's files", "Triton 的文件")
    command = "pip uninstall -y triton triton-ascend"
    left = Text(
        f"then remove what is left of these: {' '.join(triton)}",
        f"然后删除其中残留的目录：{' '.join(triton)}",
    )
    yield error(
        Evidence(what, joined(triton), NOTHING), do=(Text(command, f"执行 {command}"), left)
    )


RULE = Rule("triton-310p", Text("Triton on a 310P", "310P 上的 Triton"), _judge)
