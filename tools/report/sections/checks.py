# SPDX-License-Identifier: Apache-2.0
"""What each check of each stage measured."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import (
    Block,
    Cell,
    Heading,
    Literally,
    Prose,
    Section,
    Table,
)
from vllm_ascend_bringup.tools.report.words import NONE, STATES, duration, stage_title
from vllm_ascend_bringup.tools.validate.results import Check, Validation, as_text

_HEAD = (
    Text("check", "检查项"), Text("result", "结果"), Text("cause", "原因标签"),
    Text("time", "用时"), Text("evidence", "证据"),
)  # fmt: skip


def section(validation: Validation) -> Section:
    """A table per stage."""
    blocks: list[Block] = []
    for stage in validation.stages:
        blocks.append(Heading(stage_title(stage), STATES[stage.state]))
        if stage.checks:
            rows = tuple(check_row(check) for check in stage.checks)
            blocks.append(Table(_HEAD, rows, numeric=frozenset({3})))
        else:
            blocks.append(Prose(Text("No check was run.", "没有运行任何检查。")))
    if not blocks:
        blocks.append(Prose(Text("No check was run.", "没有运行任何检查。")))
    return Section("checks", Text("Checks and their evidence", "检查项与证据"), tuple(blocks))


def check_row(check: Check) -> tuple[Cell, ...]:
    """Title, result, cause, time, evidence."""
    return (
        check.title, STATES[check.state], Literally(check.label) if check.label else NONE,
        duration(check.seconds) if check.seconds else NONE,
        Literally(as_text(check.evidence)) if check.evidence else NONE,
    )  # fmt: skip
