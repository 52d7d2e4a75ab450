# SPDX-License-Identifier: Apache-2.0
"""A diagnosis as JSON and as text for a terminal."""

from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.diagnose.base import Excerpt, Finding

SCHEMA_VERSION = 1
_CONFIDENCE = Text("{id}, confidence {value}", "{id}，置信度 {value}")
_EVIDENCE = Text("Seen", "日志证据")
_ACTIONS = Text("What to do", "处理办法")
_AFTERWARDS = Text(
    "Also seen; likely what the first one triggered", "其他现象，很可能由上面的原因引起"
)


def to_json(findings: Sequence[Finding], language: Language) -> dict[str, Any]:
    """Findings, most likely first; titles and actions in one language."""
    return {
        "schema_version": SCHEMA_VERSION,
        "findings": [
            {
                "id": finding.id,
                "confidence": finding.confidence,
                "title": said(finding.title, language),
                "evidence": [_excerpt_json(excerpt) for excerpt in finding.evidence],
                "actions": [said(action, language) for action in finding.actions],
            }
            for finding in findings
        ],
    }


def _excerpt_json(excerpt: Excerpt) -> dict[str, Any]:
    where = {} if excerpt.file is None else {"file": excerpt.file}
    return {**where, "line": excerpt.line, "text": excerpt.text}


def render(findings: Sequence[Finding], language: Language, console: Console) -> None:
    """The first finding in full, what likely followed from it in short."""

    def say(text: Text, **values: object) -> str:
        return escape(str(said(text.format(**values), language)))

    first, *others = findings
    console.print(
        f"[bold]{say(first.title)}[/]  {say(_CONFIDENCE, id=first.id, value=first.confidence)}",
        soft_wrap=True,
        highlight=False,
    )
    if first.evidence:
        console.print(f"\n{say(_EVIDENCE)}")
    for excerpt in first.evidence:
        _quote(excerpt, console)
    console.print(f"\n{say(_ACTIONS)}")
    for number, action in enumerate(first.actions, 1):
        console.print(f"  {number}. {say(action)}", soft_wrap=True, highlight=False)
    if others:
        console.print(f"\n{say(_AFTERWARDS)}")
    for finding in others:
        console.print(
            f"  {say(finding.title)}  {say(_CONFIDENCE, id=finding.id, value=finding.confidence)}",
            soft_wrap=True,
            highlight=False,
        )
        for excerpt in finding.evidence[:1]:
            _quote(excerpt, console)


def _quote(excerpt: Excerpt, console: Console) -> None:
    place = f"{excerpt.file}:{excerpt.line}" if excerpt.file else str(excerpt.line)
    console.print(
        f"  [dim]{escape(place):>6}[/]  {escape(excerpt.text)}", soft_wrap=True, highlight=False
    )
