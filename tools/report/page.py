# SPDX-License-Identifier: Apache-2.0
"""The report as one page: no script, nothing fetched, light and dark, for screen and paper."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.report.whole import Report

_SIGNS = {"good": "✓", "bad": "✕", "warn": "!", "plain": "–"}
_CONTENTS = Text("Contents", "目录")


def to_page(report: Report, language: Language) -> str:
    """The whole report in one language. Everything but our own drawings is escaped."""
    loader = FileSystemLoader(Path(__file__).parent)
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["say"] = lambda words: said(words, language)
    environment.filters["drawing"] = lambda drawn: Markup(said(drawn, language))
    titles = {section.id: said(section.title, language) for section in report.sections}
    environment.filters["title"] = titles.__getitem__
    environment.filters["kind"] = lambda value: type(value).__name__
    page: str = environment.get_template("page.jinja").render(
        report=report, lang="zh-CN" if language == "zh" else "en", signs=_SIGNS,
        contents=_CONTENTS,
    )  # fmt: skip
    return page
