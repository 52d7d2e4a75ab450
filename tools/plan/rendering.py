# SPDX-License-Identifier: Apache-2.0
"""A plan as text for a terminal."""

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.plan.base import Plan, shell_word
from vllm_ascend_bringup.tools.plan.memory import size

_LABELLED = Text("{label}: {content}", "{label}：{content}")
_FITS = Text("fits", "可以部署")
_TOO_LARGE = Text("does not fit", "无法部署")
_LABELS = {
    "model": Text("model", "模型"),
    "chip": Text("chip", "芯片"),
    "weights": Text("weights", "权重"),
    "layout": Text("layout", "并行方式"),
    "graphs": Text("graphs", "图模式"),
    "capacity": Text("capacity", "容量"),
}
_CAPACITY = Text(
    "{tokens} tokens: {requests} requests of {length} at a time; the longest context {largest}",
    "{tokens} 个 token：可同时处理 {requests} 个长度为 {length} 的请求；最长上下文 {largest}",
)
_MEMORY = Text("memory of one card", "单卡显存")
_COLUMNS = (Text("part", "部分"), Text("size", "大小"), Text("from", "依据"))
_BESIDE = Text("left over", "剩余")
_USABLE = Text("{card}, of which vLLM may use {usable}", "共 {card}，其中 vLLM 可用 {usable}")
_COMMAND = Text("command", "部署命令")
_EAGER = Text("eager", "eager 模式")
_OF_NODE = Text("command of node {node}", "节点 {node} 的部署命令")
_REASONS = Text("why", "原因")
_LEFT_OUT = Text("left to vLLM", "采用 vLLM 默认值")
_SOURCE = Text("    source: {source}", "    出处：{source}")
_TO_DO = Text("to do", "处理办法")
_NOTE = Text("note", "说明")


class _Printer:
    """Lines on a console in one language; what is read aloud is never marked up."""

    def __init__(self, console: Console, language: Language) -> None:
        self.console, self.language = console, language

    def text(self, content: object) -> str:
        """In the language."""
        return str(said(content, self.language))

    def line(self, content: object = "", style: str | None = None) -> None:
        """One line, however long."""
        self.console.print(
            self.text(content), style=style, markup=False, highlight=False, soft_wrap=True
        )

    def labelled(self, label: Text, content: object) -> None:
        """``label: content``, with the punctuation of the language."""
        self.line(_LABELLED.format(label=label, content=content))


def render_plan(plan: Plan, console: Console, language: Language, *, explain: bool) -> None:
    """Print it. ``explain``: each flag and variable with its reason and source."""
    out = _Printer(console, language)
    out.line(_FITS if plan.fits else _TOO_LARGE, "green" if plan.fits else "red")
    for name, content in _facts(plan).items():
        out.labelled(_LABELS[name], content)
    console.print(_memory(plan, out))
    for node in range(len(plan.commands)):
        out.line()
        out.line(_COMMAND if len(plan.commands) == 1 else _OF_NODE.format(node=node), "bold")
        for setting in plan.environment:
            out.line(f"export {setting.name}={shell_word(setting.value or '')}")
        out.line(plan.command(node))
    if explain:
        _explain(plan, out)
    for recipe in plan.recipes:
        out.line()
        out.line(recipe.title, "bold")
        for content in recipe.lines:
            out.line(content)
        if recipe.note:
            out.labelled(_NOTE, recipe.note)
    out.line()
    for advice in plan.advice:
        out.labelled(_TO_DO, advice)
    for note in plan.notes:
        out.labelled(_NOTE, note)


def _facts(plan: Plan) -> dict[str, object]:
    layout, capacity = plan.layout, plan.capacity
    kinds = {"TP": layout.tp, "PP": layout.pp, "DP": layout.dp, "DCP": layout.decode_cp}
    divided = " x ".join(f"{name} {count}" for name, count in kinds.items() if count > 1) or "TP 1"
    if layout.expert_parallel:
        divided += f", EP {layout.tp * layout.dp}"
    sizes = ", ".join(map(str, plan.graphs.sizes))
    graphs: object = f"{plan.graphs.mode} ({sizes})" if sizes else _EAGER
    return {
        "model": plan.model,
        "chip": f"{CHIPS[plan.device].title} (vllm-ascend {plan.vllm_ascend})",
        "weights": plan.weights,
        "layout": divided,
        "graphs": graphs,
        "capacity": _CAPACITY.format(
            tokens=f"{capacity.tokens:,}", requests=capacity.requests, length=plan.max_model_len,
            largest=capacity.largest_length,
        ),
    }  # fmt: skip


def _memory(plan: Plan, out: _Printer) -> Table:
    memory = plan.memory
    usable = _USABLE.format(card=size(memory.card_bytes), usable=size(memory.usable_bytes))
    title = out.text(_LABELLED.format(label=_MEMORY, content=usable))
    table = Table(title=title, title_justify="left")
    for column, numbers in zip(_COLUMNS, (False, True, False), strict=True):
        table.add_column(out.text(column), justify="right" if numbers else "left", overflow="fold")
    for part in memory.parts:
        cells = out.text(part.title), size(part.bytes), out.text(part.formula)
        table.add_row(*map(escape, cells))
    table.add_row(out.text(_BESIDE), size(memory.free_bytes), "")
    return table


def _explain(plan: Plan, out: _Printer) -> None:
    groups = {_REASONS: (*plan.flags, *plan.environment), _LEFT_OUT: plan.defaults}
    for title, settings in groups.items():
        out.line()
        out.line(title, "bold")
        for setting in settings:
            value = "" if setting.value is None else f" {setting.value}"
            out.line(f"{setting.name}{value}")
            out.line(Text("    {reason}", "    {reason}").format(reason=setting.reason))
            out.line(_SOURCE.format(source=setting.source))
