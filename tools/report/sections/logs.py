# SPDX-License-Identifier: Apache-2.0
"""The last lines that each server wrote."""

from collections import deque
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import (
    Block,
    Code,
    Heading,
    Literally,
    Prose,
    Section,
    Table,
)
from vllm_ascend_bringup.tools.report.words import STATES, stage_title
from vllm_ascend_bringup.tools.validate.results import Start, Validation

_TITLE = Text("Excerpts of the logs", "日志摘录")
_HEAD = (Text("start", "启动"), Text("its whole log", "完整日志"))
# Enough for a traceback and what came before it.
_LINES = 60


def section(validation: Validation) -> Section:
    """Where each log is; of those that are there, at most 60 lines, numbered as in the log."""
    starts = [start for start in (*validation.stages, *validation.ladder) if start.log]
    if not starts:
        nothing = Text("No server wrote a log.", "没有服务日志。")
        return Section("logs", _TITLE, (Prose(nothing),))
    rows = tuple((stage_title(start), Literally(start.log)) for start in starts)
    blocks: list[Block] = [Table(_HEAD, rows)]
    for start in starts:
        lines = _last(start)
        if lines:
            blocks.append(Heading(stage_title(start), STATES[start.state]))
            numbers = tuple(number for number, _ in lines)
            blocks.append(Code(tuple(line for _, line in lines), numbers))
    return Section("logs", _TITLE, tuple(blocks))


def _last(start: Start) -> list[tuple[int, str]]:
    try:
        with Path(start.log).open(encoding="utf-8", errors="replace") as log:
            return [
                (number, line.rstrip("\n")) for number, line in deque(enumerate(log, 1), _LINES)
            ]
    except OSError:
        return []
