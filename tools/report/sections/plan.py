# SPDX-License-Identifier: Apache-2.0
"""What ``bringup plan`` recommends."""

import shlex
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Code, Prose, Section, Table
from vllm_ascend_bringup.tools.report.sections.facts import rows
from vllm_ascend_bringup.tools.report.words import shell_lines
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Plan", "计划")
_HEAD = (Text("choice", "选项"), Text("value", "值"))
# Drawn by themselves, here or in the section of the memory.
_APART = ("schema_version", "command", "environment", "memory")


def section(validation: Validation) -> Section:
    """The command and the choices behind it."""
    plan = validation.plan
    if plan is None:
        nothing = Text(
            "No plan was made: the command was given as it is.",
            "没有生成计划：直接使用给定的命令。",
        )
        return Section("plan", _TITLE, (Prose(nothing),))
    blocks: list[Block] = []
    if command := _arguments(plan.get("command")):
        blocks.append(Code(shell_lines(command, plan.get("environment") or {})))
    if choices := rows({name: value for name, value in plan.items() if name not in _APART}):
        blocks.append(Table(_HEAD, choices))
    if not blocks:
        blocks.append(Prose(Text("The plan recommends nothing.", "计划没有给出建议。")))
    return Section("plan", _TITLE, tuple(blocks))


def _arguments(command: Any) -> list[str]:
    return shlex.split(command) if isinstance(command, str) else list(command or ())
