# SPDX-License-Identifier: Apache-2.0
"""The exact commands, to do it again."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Code, Heading, Prose, Section
from vllm_ascend_bringup.tools.report.words import STATES, shell_lines, stage_title
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Commands to repeat it", "复现命令")


def section(validation: Validation) -> Section:
    """A command per server, with its environment variables."""
    blocks: list[Block] = []
    for start in (*validation.stages, *validation.ladder):
        if not start.command:
            continue
        blocks.append(Heading(stage_title(start), STATES[start.state]))
        blocks.append(Code(shell_lines(start.command, start.environment)))
    if not blocks:
        blocks.append(Prose(Text("No server was started.", "没有启动任何服务。")))
    return Section("commands", _TITLE, tuple(blocks))
