# SPDX-License-Identifier: Apache-2.0
"""How long each step of a start-up took, dummy weights beside real ones."""

from vllm_ascend_bringup.language import Text, said
from vllm_ascend_bringup.tools.report.blocks import Cell, Prose, Section, Table
from vllm_ascend_bringup.tools.report.drawing import FONT_SIZE, LINE, Canvas, figure, text_width
from vllm_ascend_bringup.tools.report.words import NONE, duration, stage_title
from vllm_ascend_bringup.tools.validate.results import Start, Validation

_TITLE = Text("Start-up", "启动时间线")
_BAR, _ROW = 12, 18
_COLOURS = 8


def section(validation: Validation) -> Section:
    """Steps from top to bottom, time from left to right."""
    stages = [stage for stage in validation.stages if stage.timeline]
    if not stages:
        nothing = Text("No server came far enough to be timed.", "没有服务启动到可以计时的阶段。")
        return Section("startup", _TITLE, (Prose(nothing),))
    titles = _titles(stages)
    alternative = Text(
        "Seconds from the start of the process to each step. {stages}.",
        "从进程启动到各步骤完成的时间。{stages}。",
    ).format(stages=_listed(stages))
    picture = figure(
        Text(
            "Each bar is a step, from the end of the one before",
            "每条横条是一个步骤，起点为上一步骤的终点",
        ),
        alternative,
        lambda canvas: _draw(canvas, stages, titles),
    )
    head = (Text("step, done after", "步骤（完成时刻）"), *(stage_title(stage) for stage in stages))
    rows = tuple(
        (title, *(_end(stage, name) for stage in stages)) for name, title in titles.items()
    )
    numeric = frozenset(range(1, len(head)))
    return Section("startup", _TITLE, (picture, Table(head, rows, numeric, compact=True)))


def _titles(stages: list[Start]) -> dict[str, Text]:
    """Names of all steps, in the order of the stage that has most."""
    longest = sorted(stages, key=lambda stage: -len(stage.timeline))
    return {event.name: event.title for stage in longest for event in stage.timeline}


def _end(stage: Start, name: str) -> Cell:
    step = _steps(stage).get(name)
    return NONE if step is None else duration(step[1])


def _steps(stage: Start) -> dict[str, tuple[float, float]]:
    """Begin and end of each step, seconds."""
    steps, before = {}, 0.0
    for event in sorted(stage.timeline, key=lambda event: event.seconds):
        steps[event.name] = (before, event.seconds)
        before = event.seconds
    return steps


def _listed(stages: list[Start]) -> Text:
    def one(stage: Start) -> Text:
        end = max(event.seconds for event in stage.timeline)
        return Text("{title}: {end}", "{title}：{end}").format(
            title=stage_title(stage), end=duration(end)
        )

    texts = [one(stage) for stage in stages]
    return Text("; ".join(text.en for text in texts), "；".join(text.zh for text in texts))


def _draw(canvas: Canvas, stages: list[Start], titles: dict[str, Text]) -> None:
    steps = [_steps(stage) for stage in stages]
    last = max(end for of_stage in steps for _, end in of_stage.values()) or 1.0
    names = [str(said(stage_title(stage), canvas.language)) for stage in stages]

    def took(place: int, name: str) -> str:
        begin, end = steps[place][name]
        return f"{names[place]} {said(duration(end - begin), canvas.language)}"

    # The longest words beside a bar decide how wide a second is.
    room = max(text_width(took(p, name)) for p, of_stage in enumerate(steps) for name in of_stage)
    scale = (canvas.width - room - 8) / last
    for name, title in titles.items():
        canvas.paragraph(0, str(said(title, canvas.language)), canvas.width, "label")
        for place, of_stage in enumerate(steps):
            if name not in of_stage:
                continue
            begin, end = of_stage[name]
            width = max(2.0, (end - begin) * scale)
            canvas.rect(0, canvas.y + 3, last * scale, _BAR, "track")
            canvas.rect(begin * scale, canvas.y + 3, width, _BAR, f"part part{place % _COLOURS}")
            canvas.text(last * scale + 8, canvas.y + FONT_SIZE + 1, took(place, name))
            canvas.y += _ROW
        canvas.y += LINE / 3
