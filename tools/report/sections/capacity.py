# SPDX-License-Identifier: Apache-2.0
"""The largest sizes that served, beside those that are theoretically possible."""

import math
from collections.abc import Callable

from vllm_ascend_bringup.language import Text, said
from vllm_ascend_bringup.tools.report.blocks import Cell, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.report.drawing import FONT_SIZE, LINE, Canvas, figure, text_width
from vllm_ascend_bringup.tools.report.words import NONE, STATES, duration
from vllm_ascend_bringup.tools.validate.results import Capacity, Validation

_TITLE = Text("Capacity", "容量")
_HEAD = (
    Text("limit", "上限"), Text("tokens of a sequence", "单序列 token 数"),
    Text("sequences", "序列数"),
)  # fmt: skip
_TRIALS = (
    Text("--max-model-len", "--max-model-len"), Text("--max-num-seqs", "--max-num-seqs"),
    Text("result", "结果"), Text("cause", "原因标签"), Text("time", "用时"),
)  # fmt: skip
_PLOT = 220
_DOT = 5


def section(validation: Validation) -> Section:
    """Limits, the curve, and every trial."""
    capacity = validation.capacity
    if capacity is None:
        nothing = Text("Capacity was not searched for.", "没有进行容量搜索。")
        return Section("capacity", _TITLE, (Prose(nothing),))
    limits: tuple[tuple[Cell, ...], ...] = (
        (Text("config.json allows", "config.json 允许"), _number(capacity.theoretical_len), NONE),
        (Text("the memory budget allows", "显存预算允许"), _number(capacity.estimated_len),
         _number(capacity.estimated_seqs)),
        (Text("started and served", "实际启动并完成请求"), _number(capacity.practical_len),
         _number(capacity.practical_seqs)),
    )  # fmt: skip
    table = Table(_HEAD, limits, frozenset({1, 2}), compact=True)
    if not capacity.trials:
        return Section("capacity", _TITLE, (table,))
    trials = tuple(
        (
            str(trial.max_model_len), str(trial.max_num_seqs),
            STATES["passed" if trial.served else "failed"],
            Literally(trial.label) if trial.label else NONE, duration(trial.seconds),
        )
        for trial in capacity.trials
    )  # fmt: skip
    picture = figure(
        Text("What was tried: context length against sequences", "各次试验：上下文长度与序列数"),
        _alternative(capacity),
        lambda canvas: _draw(canvas, capacity),
    )
    return Section(
        "capacity",
        _TITLE,
        (table, picture, Table(_TRIALS, trials, frozenset({1, 4}), compact=True)),
    )


def _number(value: int | None) -> Cell:
    return Text("not known", "未知") if value is None else str(value)


def _alternative(capacity: Capacity) -> Text:
    served = sum(trial.served for trial in capacity.trials)
    return Text(
        "{served} of {tried} sizes served. Largest that served: {length} tokens of a sequence, "
        "{sequences} sequences.",
        "共试验 {tried} 组，其中 {served} 组可以服务。可服务的最大值：单序列 {length} 个 token，"
        "{sequences} 个序列。",
    ).format(
        served=served, tried=len(capacity.trials), length=_number(capacity.practical_len),
        sequences=_number(capacity.practical_seqs),
    )  # fmt: skip


def _lines(capacity: Capacity) -> list[tuple[int, Text]]:
    known = (
        (capacity.practical_len, Text("served: {n}", "实际 {n}")),
        (capacity.estimated_len, Text("budget: {n}", "预算 {n}")),
        (capacity.theoretical_len, Text("config: {n}", "配置 {n}")),
    )
    return [(value, text.format(n=value)) for value, text in known if value]


class _Scale:
    """Logarithmic from ``begin`` to ``end`` units of the picture."""

    def __init__(self, values: list[int], begin: float, end: float) -> None:
        self.low, high = math.log2(min(values)), math.log2(max(values))
        self.begin, self.span = begin, end - begin
        self.range = high - self.low

    def __call__(self, value: int) -> float:
        if not self.range:
            return self.begin + self.span / 2
        return self.begin + self.span * (math.log2(value) - self.low) / self.range


def _draw(canvas: Canvas, capacity: Capacity) -> None:
    """Lengths from left to right, sequences upwards, both in powers of two."""
    trials, lines = capacity.trials, _lines(capacity)
    lengths = sorted({trial.max_model_len for trial in trials})
    sequences = sorted({trial.max_num_seqs for trial in trials})
    left = text_width(str(sequences[-1])) + 18
    top = LINE * (len(lines) + 1) + 14.0
    bottom = top + _PLOT
    across = _Scale([*lengths, *(value for value, _ in lines)], left + 10, canvas.width - 24)
    up = _Scale(sequences, bottom - 14, top + 14)
    canvas.text(0, FONT_SIZE, str(said(_SEQUENCES, canvas.language)), "axis")
    # The leftmost line has the lowest label, left of it: no line crosses a label but where the
    # label has no room and moves.
    for place, (value, text) in enumerate(sorted(lines, key=lambda line: -line[0])):
        baseline = LINE * (place + 2) - 4
        canvas.line(across(value), baseline - FONT_SIZE + 2, across(value), bottom, "limit")
        words = str(said(text, canvas.language))
        canvas.text(across(value) - 6, baseline, words, "halo", anchor="end")
    canvas.line(left, bottom, canvas.width, bottom, "frame")
    canvas.line(left, top, left, bottom, "frame")
    for count in _spaced(sequences, up, lambda _: LINE):
        canvas.text(left - 8, up(count) + 5, str(count), "number", anchor="end")
    for length in _spaced(lengths, across, lambda value: text_width(str(value)) + 8):
        canvas.text(across(length), bottom + LINE, str(length), "number", anchor="middle")
    _frontier(canvas, capacity, across, up)
    for trial in trials:
        _dot(canvas, across(trial.max_model_len), up(trial.max_num_seqs), trial.served)
    canvas.y = bottom + LINE + 8
    canvas.paragraph(0, str(said(_LENGTHS, canvas.language)), canvas.width, "axis")
    _key(canvas)


_SEQUENCES = Text("sequences (--max-num-seqs)", "序列数（--max-num-seqs）")
_LENGTHS = Text("tokens of a sequence (--max-model-len)", "单序列 token 数（--max-model-len）")
_SERVED = Text("served", "可服务")
_FAILED = Text("failed", "失败")


def _spaced(values: list[int], scale: _Scale, room: Callable[[int], float]) -> list[int]:
    """Those whose labels do not touch; the largest first, as it matters most."""
    kept: list[int] = []
    for value in reversed(values):
        if all(abs(scale(value) - scale(other)) >= (room(value) + room(other)) / 2
               for other in kept):  # fmt: skip
            kept.append(value)
    return kept


def _frontier(canvas: Canvas, capacity: Capacity, across: _Scale, up: _Scale) -> None:
    """The curve: for each number of sequences the longest context that served."""
    best: dict[int, int] = {}
    for trial in capacity.trials:
        if trial.served:
            best[trial.max_num_seqs] = max(best.get(trial.max_num_seqs, 0), trial.max_model_len)
    points = [f"{across(best[count]):.1f} {up(count):.1f}" for count in sorted(best)]
    if len(points) > 1:
        canvas.path("M" + "L".join(points), "curve")


def _dot(canvas: Canvas, x: float, y: float, served: bool) -> None:
    """A disc for what served, a cross for what did not."""
    d = _DOT
    if served:
        canvas.path(
            f"M{x - d:.1f} {y:.1f}a{d} {d} 0 1 0 {2 * d} 0a{d} {d} 0 1 0 {-2 * d} 0z", "served"
        )
    else:
        cross = f"M{x - d:.1f} {y - d:.1f}l{2 * d} {2 * d}m0 {-2 * d}l{-2 * d} {2 * d}"
        canvas.path(cross, "refused")


def _key(canvas: Canvas) -> None:
    x = _DOT + 1.0
    for served, text in ((True, _SERVED), (False, _FAILED)):
        words = str(said(text, canvas.language))
        _dot(canvas, x, canvas.y + LINE / 2, served)
        canvas.text(x + 12, canvas.y + FONT_SIZE + 1, words)
        x += text_width(words) + 40
    canvas.y += LINE + 4
