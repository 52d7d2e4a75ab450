# SPDX-License-Identifier: Apache-2.0
"""Servers that said they were ready and did not serve."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Cell, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.report.words import NONE, duration, stage_title
from vllm_ascend_bringup.tools.validate.results import Start, Validation, as_text

LABEL = "false-ready"
_TITLE = Text("Ready, but not serving", "假就绪")
_HEAD = (
    Text("start", "启动"), Text("ready after", "就绪用时"),
    Text("first check that failed", "首个失败的检查项"), Text("evidence", "证据"),
)  # fmt: skip


def section(validation: Validation) -> Section:
    """A row per such server."""
    rows = tuple(_row(s) for s in (*validation.stages, *validation.ladder) if is_false_ready(s))
    block: Block = Table(_HEAD, rows, numeric=frozenset({1}))
    if not rows:
        block = Prose(
            Text(
                "No server said that it was ready and then failed its first request.",
                "没有出现服务报告就绪、却在第一个请求上失败的情况。",
            )
        )
    return Section("false-ready", _TITLE, (block,))


def is_false_ready(start: Start) -> bool:
    """Whether it became ready and this is what validate, a check or a diagnosis calls it."""
    labels = {start.label, *(check.label for check in start.checks)}
    labels |= {finding.id for finding in start.diagnoses}
    return start.ready_after is not None and LABEL in labels


def _row(start: Start) -> tuple[Cell, ...]:
    failed = next((check for check in start.checks if check.state == "failed"), None)
    return (
        stage_title(start),
        duration(start.ready_after or 0.0),
        failed.title if failed else NONE,
        Literally(as_text(failed.evidence)) if failed and failed.evidence else NONE,
    )
