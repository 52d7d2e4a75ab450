# SPDX-License-Identifier: Apache-2.0
"""Fallbacks that were tried after a failure, one change at a time."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Cell, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.report.words import NONE, STATES, duration, stage_title
from vllm_ascend_bringup.tools.validate.results import Start, Validation, as_text

_TITLE = Text("Fallbacks, one change each", "回退阶梯：每次只改一处")
_HEAD = (
    Text("rung", "步骤"), Text("what was changed", "改动"), Text("result", "结果"),
    Text("cause", "原因标签"), Text("ready after", "就绪用时"), Text("evidence", "证据"),
)  # fmt: skip


def section(validation: Validation) -> Section:
    """A row per rung, and which one helped."""
    if not validation.ladder:
        nothing = Text("No fallback was tried.", "没有尝试回退。")
        return Section("ladder", _TITLE, (Prose(nothing),))
    helped = next((start for start in validation.ladder if start.state == "passed"), None)
    if helped is None:
        verdict = Text(
            "None of these changes helped: the cause lies elsewhere.",
            "这些改动都没有奏效：原因不在于此。",
        )
    else:
        verdict = Text(
            "First change that helped: {change}. It is a fallback, not the cure.",
            "首个奏效的改动：{change}。这只是回退手段，不是根治办法。",
        ).format(change=" ".join(helped.changed) or stage_title(helped))
    rows = tuple(_row(start) for start in validation.ladder)
    return Section("ladder", _TITLE, (Prose(verdict), Table(_HEAD, rows, frozenset({4}))))


def _row(start: Start) -> tuple[Cell, ...]:
    return (
        stage_title(start),
        _changed(start),
        STATES[start.state],
        Literally(start.label) if start.label else NONE,
        NONE if start.ready_after is None else duration(start.ready_after),
        _evidence(start),
    )


def _changed(start: Start) -> Cell:
    if start.changed:
        return Literally("\n".join(start.changed))
    return NONE if start.state == "not-run" else Text("nothing: once more", "无：原样重试一次")


def _evidence(start: Start) -> Cell:
    """Why it was not run; all of the check that failed; a line of each if none did."""
    if start.note is not None:
        return start.note
    failed = [line for check in start.checks if check.state == "failed" for line in check.evidence]
    lines = failed or [check.evidence[0] for check in start.checks if check.evidence]
    return Literally(as_text(tuple(lines))) if lines else NONE
