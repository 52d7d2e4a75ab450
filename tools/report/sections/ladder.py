# SPDX-License-Identifier: Apache-2.0
"""Fallbacks that were tried after a failure, one change at a time."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Cell, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.report.words import NONE, STATES, duration, stage_title
from vllm_ascend_bringup.tools.validate.results import Start, Validation

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
        Literally("\n".join(start.changed))
        if start.changed
        else Text("nothing: the same once more", "无：原样重试一次"),
        STATES[start.state],
        Literally(start.label) if start.label else NONE,
        NONE if start.ready_after is None else duration(start.ready_after),
        Literally("\n".join(lines)) if (lines := _evidence(start)) else NONE,
    )


def _evidence(start: Start) -> list[str]:
    """All of the check that failed; a line of each if none did."""
    failed = [line for check in start.checks if check.state == "failed" for line in check.evidence]
    lines = failed or [check.evidence[0] for check in start.checks if check.evidence]
    return lines or [excerpt.text for found in start.diagnoses for excerpt in found.evidence]
