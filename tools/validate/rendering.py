# SPDX-License-Identifier: Apache-2.0
"""What ``validate`` found, for a terminal."""

from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.validate.results import FeatureState, Start, State, Validation

_STATES: dict[State | FeatureState, tuple[str, Text]] = {
    "passed": ("green", Text("passed", "通过")),
    "failed": ("red", Text("failed", "失败")),
    "not-run": ("dim", Text("not run", "未运行")),
    "not-applicable": ("dim", Text("not applicable", "不适用")),
    "verified": ("green", Text("verified", "已验证")),
    "unsupported": ("yellow", Text("unsupported", "不支持")),
    "checkpoint-missing": ("yellow", Text("missing in the checkpoint", "权重缺失")),
    "not-tried": ("dim", Text("not tried", "未尝试")),
}
_STAGES = {"dummy": Text("dummy weights", "虚拟权重"), "real": Text("real weights", "真实权重")}


def render_validation(validation: Validation, language: Language, console: Console) -> None:
    """Stages with their checks, what was tried after, and the verdict last."""
    page = _Page(language, console)
    for start in validation.stages:
        page.start(start)
    if validation.ladder:
        page.heading(Text("fallbacks", "回退方案"))
        for start in validation.ladder:
            page.start(start)
    if validation.features:
        page.heading(Text("features", "特性"))
        for feature in validation.features:
            page.state(feature.title, feature.state, None)
            page.lines(feature.evidence)
    page.capacity(validation)
    page.heading(Text("what this does not show", "未能说明的内容"))
    page.lines(validation.limits)
    style = "green" if validation.verdict == "pass" else "red"
    summary = escape(str(said(validation.summary, language)))
    console.print(f"[bold {style}]{summary}[/]", highlight=False, soft_wrap=True)


class _Page:
    def __init__(self, language: Language, console: Console) -> None:
        self._language, self._console = language, console

    def start(self, start: Start) -> None:
        """One server."""
        title = _STAGES.get(start.stage, start.stage)
        self.heading(Text("{title} {changed}", "{title} {changed}").format(
            title=title, changed=" ".join(start.changed)
        ))  # fmt: skip
        if start.note:
            self.lines((start.note,))
        if start.command:
            self.lines((" ".join(start.command),))
        for event in start.timeline:
            self._print(f"  {event.seconds:8.1f} s  {said(event.title, self._language)}", "dim")
        for check in start.checks:
            self.state(check.title, check.state, check.label)
            self.lines(check.evidence)
        for finding in start.diagnoses:
            cause = Text("cause: {title} ({id}, {confidence:.0%})",
                         "原因：{title}（{id}，{confidence:.0%}）")  # fmt: skip
            self._print("  " + str(said(cause.format(
                title=finding.title, id=finding.id, confidence=finding.confidence
            ), self._language)), "yellow")  # fmt: skip
            self.lines([f"{found.line}: {found.text}" for found in finding.evidence])
            self.lines(finding.actions)

    def capacity(self, validation: Validation) -> None:
        """The largest sizes, if they were searched for."""
        found = validation.capacity
        if found is None:
            return
        self.heading(Text("capacity", "容量"))
        rows = (
            (Text("context that config.json allows", "config.json 允许的上下文长度"),
             found.theoretical_len),
            (Text("context that fits by estimate", "估计可容纳的上下文长度"), found.estimated_len),
            (Text("context that served", "实测可服务的上下文长度"), found.practical_len),
            (Text("sequences that fit by estimate", "估计可容纳的并发数"), found.estimated_seqs),
            (Text("sequences that served", "实测可服务的并发数"), found.practical_seqs),
        )  # fmt: skip
        for title, value in rows:
            unknown = Text("not known", "未知")
            row = Text("{title}: {value}", "{title}：{value}")
            self.lines((row.format(title=title, value=unknown if value is None else value),))
        for trial in found.trials:
            text = Text("  {length} tokens x {seqs} sequences: {what}",
                        "  {length} 个 token × {seqs} 个并发：{what}")  # fmt: skip
            what = Text("served", "可服务") if trial.served else trial.label
            self.lines((text.format(length=trial.max_model_len, seqs=trial.max_num_seqs,
                                    what=what),))  # fmt: skip

    def heading(self, title: Text) -> None:
        """Of a part."""
        self._print(str(said(title, self._language)).strip(), "bold")

    def state(self, title: Text, state: State | FeatureState, label: str | None) -> None:
        """What became of one thing."""
        style, word = _STATES[state]
        cause = f" {label}" if label else ""
        text = escape(f"{said(title, self._language)}{cause}")
        self._console.print(
            f"  [{style}]{said(word, self._language)}[/] {text}", highlight=False, soft_wrap=True
        )

    def lines(self, lines: "tuple[Text | str, ...] | list[str]") -> None:
        """Indented."""
        for line in lines:
            self._print(f"    {said(line, self._language)}", "dim")

    def _print(self, text: str, style: str) -> None:
        self._console.print(escape(text), style=style, highlight=False, soft_wrap=True)
