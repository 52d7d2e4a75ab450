# SPDX-License-Identifier: Apache-2.0
"""The report as Markdown (GitHub's): headings, tables, fenced lines."""

import re
from collections.abc import Iterator

from vllm_ascend_bringup.language import Language, said
from vllm_ascend_bringup.tools.report.blocks import (
    Block,
    Bullets,
    Cell,
    Code,
    Figure,
    Heading,
    Link,
    Literally,
    Mark,
    Prose,
    Table,
    Words,
)  # fmt: skip
from vllm_ascend_bringup.tools.report.whole import Report

# What could begin markup or HTML; an underscore only at the edge of a word.
_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)|^(?=[#+-])", re.MULTILINE)
# What would begin an item of a numbered list.
_NUMBERED = re.compile(r"^(\d+)([.)])(?=\s|$)", re.MULTILINE)
_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def to_markdown(report: Report, language: Language) -> str:
    """The whole report in one language."""
    return "\n".join(_Writer(report, language).lines()) + "\n"


class _Writer:
    """``titles``: of sections by id, for links to them."""

    def __init__(self, report: Report, language: Language) -> None:
        self.report, self.language = report, language
        self.titles = {section.id: section.title for section in report.sections}

    def lines(self) -> Iterator[str]:
        report = self.report
        verdict = f"**{self.plain(report.verdict.words)}**"
        if report.label:
            verdict += f" · {_code(report.label)}"
        yield from (
            f"# {self.plain(report.title)}",
            "",
            verdict,
            "",
            self.plain(report.summary),
            "",
        )
        colon = "：" if self.language == "zh" else ": "
        for name, value in report.facts:
            yield f"- {self.plain(name)}{colon}{self.plain(value)}"
        for section in report.sections:
            yield from ("", f'<a id="{section.id}"></a>', "", f"## {self.plain(section.title)}")
            for block in section.blocks:
                yield ""
                yield from self.block(block)

    def plain(self, words: Words) -> str:
        """Words in which nothing is markup."""
        text = _MARKUP.sub(
            lambda found: _HTML.get(found[0], "\\" + found[0]), str(said(words, self.language))
        )
        return _NUMBERED.sub(r"\1\\\2", text)

    def block(self, block: Block) -> Iterator[str]:
        """A picture is for the page; here its content in a sentence."""
        match block:
            case Prose(words):
                yield self.plain(words)
            case Heading(words, mark):
                yield f"### {self.plain(words)}" + (f" ({self.plain(mark.words)})" if mark else "")
            case Bullets(items):
                yield from (f"- {self.plain(item)}" for item in items)
            case Table():
                yield from self.table(block)
            case Code(lines, numbers):
                yield from _fenced(lines, numbers)
            case Figure(caption, alternative):
                yield f"*{self.plain(caption)}.* {self.plain(alternative)}"

    def table(self, table: Table) -> Iterator[str]:
        rule = ("--:" if column in table.numeric else "---" for column in range(len(table.head)))
        yield f"| {' | '.join(map(self.cell, table.head))} |"
        yield f"|{'|'.join(rule)}|"
        for row in table.rows:
            yield f"| {' | '.join(map(self.cell, row))} |"

    def cell(self, cell: Cell) -> str:
        """One cell on one line; a bar would end it even inside a code span."""
        match cell:
            case Literally(text):
                lines = str(said(text, self.language)).splitlines()
                return "<br>".join(_code(line) for line in lines if line).replace("|", "\\|")
            case Mark(words, _):
                return self.plain(words)
            case Link(section):
                return f"[{self.plain(self.titles[section])}](#{section})"
            case _:
                return self.plain(cell).replace("\n", "<br>")


def _code(text: str) -> str:
    """A code span, whatever is in it."""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{ticks}{padding}{text}{padding}{ticks}"


def _fenced(lines: tuple[str, ...], numbers: tuple[int, ...]) -> Iterator[str]:
    """Lines, each after its number if they have any."""
    width = len(str(max(numbers, default=0)))
    before = [f"{number:>{width}}  " for number in numbers] or [""] * len(lines)
    longest = max(map(len, re.findall("`+", "\n".join(lines))), default=0)
    fence = "`" * max(3, 1 + longest)
    yield fence + "text"
    yield from map(str.__add__, before, lines)
    yield fence
