# SPDX-License-Identifier: Apache-2.0
"""The last lines that each server wrote."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Code, Heading, Prose, Section
from vllm_ascend_bringup.tools.report.words import STATES, stage_title
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Excerpts of the logs", "日志摘录")
# Enough for a traceback and what came before it.
_LINES = 60


def section(validation: Validation) -> Section:
    """At most 60 lines per server, numbered as in its log."""
    blocks: list[Block] = []
    for start in (*validation.stages, *validation.ladder):
        lines = start.log.splitlines()
        if not lines:
            continue
        first = max(0, len(lines) - _LINES)
        blocks.append(Heading(stage_title(start), STATES[start.state]))
        blocks.append(Code(tuple(lines[first:]), tuple(range(first + 1, len(lines) + 1))))
    if not blocks:
        blocks.append(Prose(Text("No server wrote a log.", "没有服务日志。")))
    return Section("logs", _TITLE, tuple(blocks))
