# SPDX-License-Identifier: Apache-2.0
"""The doctor's report on a terminal, in one language."""

from collections.abc import Callable

from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.doctor.base import ERROR, NOTE, SEVERITIES, WARNING, Finding
from vllm_ascend_bringup.tools.doctor.facts import Facts
from vllm_ascend_bringup.tools.doctor.report import DoctorReport

_Line = Callable[..., None]
_STYLES = {ERROR: "red", WARNING: "yellow", NOTE: "cyan"}
_NAMES = {
    ERROR: Text("error", "错误"), WARNING: Text("warning", "警告"), NOTE: Text("note", "提示"),
}  # fmt: skip
_EVIDENCE = Text("{what}: {found}; expected: {expected}", "{what}：{found}；应为：{expected}")
_TO_DO = Text("to do: {action}", "处理：{action}")
_UNCHECKED = Text("could not be checked:", "未能检查的项目：")
_FINE = Text("no findings", "没有发现问题")
_COUNTS = {
    ERROR: Text("errors: {count}", "错误 {count} 个"),
    WARNING: Text("warnings: {count}", "警告 {count} 个"),
    NOTE: Text("notes: {count}", "提示 {count} 条"),
}
_LEFT_OUT = Text("not checked: {count}", "未检查 {count} 项")
_ABSENT = Text("not found", "未找到")


def render_doctor(report: DoctorReport, console: Console, language: Language) -> None:
    """Print what is there, what is wrong, and what could not be checked."""

    def line(text: object, style: str | None = None) -> None:
        console.print(
            escape(str(said(text, language))), style=style, highlight=False, soft_wrap=True
        )

    for label, value in _summary(report.facts):
        line(Text("{label}: {value}", "{label}：{value}").format(label=label, value=value))
    for severity in SEVERITIES:
        for finding in report.findings:
            if finding.severity == severity:
                _finding(finding, line)
    by_reason: dict[Text, list[Text]] = {}
    for entry in report.unchecked:
        by_reason.setdefault(entry.reason, []).append(entry.title)
    if by_reason:
        line("")
        line(_UNCHECKED, "bold")
    for reason, titles in by_reason.items():
        joined = Text(", ".join(t.en for t in titles), "、".join(t.zh for t in titles))
        line(Text("  {titles}", "  {titles}").format(titles=joined))
        line(Text("    {reason}", "    {reason}").format(reason=reason))
    line("")
    line(_verdict(report), "red" if report.exit_code else "green")
    line(report.beyond)


def _finding(finding: Finding, line: _Line) -> None:
    head = Text("{severity} [{id}] {title}", "{severity} [{id}] {title}")
    line("")
    line(head.format(severity=_NAMES[finding.severity], id=finding.id, title=finding.title),
         _STYLES[finding.severity])  # fmt: skip
    for row in finding.evidence:
        text = _EVIDENCE.format(what=row.what, found=row.found, expected=row.expected)
        line(Text("  {text}", "  {text}").format(text=text))
    for action in finding.actions:
        text = _TO_DO.format(action=action)
        line(Text("  {text}", "  {text}").format(text=text))


def _verdict(report: DoctorReport) -> Text:
    parts = []
    for severity in SEVERITIES:
        count = sum(finding.severity == severity for finding in report.findings)
        if count:
            parts.append(_COUNTS[severity].format(count=count))
    parts = parts or [_FINE]
    if report.unchecked:
        parts.append(_LEFT_OUT.format(count=len(report.unchecked)))
    return Text(", ".join(part.en for part in parts), "，".join(part.zh for part in parts))


def _summary(facts: Facts) -> list[tuple[Text, object]]:
    packages = facts.packages or {}
    vllm = facts.imported.version if facts.imported else None
    software = {
        "vllm": vllm or (packages["vllm"].version if "vllm" in packages else None),
        **{name: packages[name].version if name in packages else None
           for name in ("vllm-ascend", "torch", "torch-npu", "transformers")},
    }  # fmt: skip
    chips = facts.npus or ()
    names = ", ".join(sorted({npu.name for npu in chips}))
    title = f"{facts.chip.title}, {len(chips)} x {names}" if facts.chip else names
    return [
        (Text("chips", "芯片"), title or _ABSENT),
        (Text("driver", "驱动"), facts.driver.version if facts.driver else _ABSENT),
        (Text("firmware", "固件"), facts.firmware.version if facts.firmware else _ABSENT),
        (Text("CANN toolkit", "CANN toolkit"), facts.toolkit.version if facts.toolkit else _ABSENT),
        (Text("NNAL", "NNAL"), facts.nnal.version if facts.nnal else _ABSENT),
        (Text(f"Python {facts.python_version}", f"Python {facts.python_version}"), facts.python),
        *((Text(name, name), version or _ABSENT) for name, version in software.items()),
    ]
