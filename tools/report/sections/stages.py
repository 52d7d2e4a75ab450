# SPDX-License-Identifier: Apache-2.0
"""Dummy weights against real ones: how both servers started and what their checks said."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Cell, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.report.words import NONE, STATES, duration, stage_title
from vllm_ascend_bringup.tools.validate.results import Check, Start, Validation


def section(validation: Validation) -> Section:
    """A column per stage; a row per fact and per check."""
    stages = validation.stages
    if not stages:
        nothing = Text("No server was started.", "没有启动任何服务。")
        return Section("stages", _TITLE, (Prose(nothing),))
    head = (Text("what", "项目"), *(stage_title(stage) for stage in stages))
    facts: tuple[tuple[Cell, ...], ...] = (
        (Text("result", "结果"), *(STATES[stage.state] for stage in stages)),
        (Text("ready after", "就绪用时"), *(_ready(stage) for stage in stages)),
        (Text("whole time", "总用时"), *(duration(stage.seconds) for stage in stages)),
        (Text("cause", "原因标签"), *(_label(stage.label) for stage in stages)),
    )
    if any(stage.note for stage in stages):
        facts += ((Text("why", "说明"), *(stage.note or NONE for stage in stages)),)
    titles = {check.id: check.title for stage in stages for check in stage.checks}
    checks = tuple(
        (title, *(_state(stage, id_) for stage in stages)) for id_, title in titles.items()
    )
    return Section(
        "stages", _TITLE, (Prose(_INTRODUCTION), Table(head, facts + checks, compact=True))
    )


_TITLE = Text("Dummy weights against real weights", "虚拟权重与真实权重的对照")
_INTRODUCTION = Text(
    "Dummy weights show quickly whether the server starts. Only real weights prove that it works: "
    "a pass needs every check of that column.",
    "虚拟权重只能快速说明服务能否启动；只有真实权重一栏的全部检查通过，才算验证通过。",
)


def _ready(stage: Start) -> Cell:
    if stage.ready_after is None:
        return Text("never", "从未就绪")
    return duration(stage.ready_after)


def _label(label: str | None) -> Cell:
    return Literally(label) if label else NONE


def _state(stage: Start, id_: str) -> Cell:
    found: Check | None = next((check for check in stage.checks if check.id == id_), None)
    return STATES[found.state] if found else NONE
