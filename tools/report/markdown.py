# SPDX-License-Identifier: Apache-2.0
"""The report as Markdown (GitHub's): headings, tables, fenced lines."""

import re
from functools import singledispatch

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
_MARKUP = re.compile(r"[\\`*\[\]<>|~&]|(?<!\w)_|_(?!\w)|^(?=[#+-]|\d+[.)])", re.MULTILINE)
_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def to_markdown(report: Report, language: Language) -> str:
    """The whole report in one language."""
    verdict = f"**{_plain(report.verdict.words, language)}**"
    if report.label:
        verdict += f" · {_code(report.label)}"
    lines = [f"# {_plain(report.title, language)}", "", verdict, "",
             _plain(report.summary, language), ""]  # fmt: skip
    lines += [f"- {_plain(name, language)}: {_plain(value, language)}"
              for name, value in report.facts]  # fmt: skip
    for section in report.sections:
        lines += ["", f'<a id="{section.id}"></a>', "", f"## {_plain(section.title, language)}"]
        for block in section.blocks:
            lines += ["", *_lines(block, language)]
    return "\n".join(lines) + "\n"


def _plain(words: Words, language: Language) -> str:
    """Words in which nothing is markup."""

    def escaped(found: re.Match[str]) -> str:
        return _HTML.get(found[0], "\\" + found[0])

    return _MARKUP.sub(escaped, str(said(words, language)))


def _code(text: str) -> str:
    """A code span, whatever is in it."""
    ticks = "`" * (1 + max((len(run) for run in re.findall("`+", text)), default=0))
    padding = " " if text[:1] == "`" or text[-1:] == "`" else ""
    return f"{ticks}{padding}{text}{padding}{ticks}"


def _cell(cell: Cell, language: Language) -> str:
    """One cell on one line; a bar would end it even inside a code span."""
    match cell:
        case Literally(text):
            lines = [_code(line) for line in text.splitlines() if line]
            return "<br>".join(lines).replace("|", "\\|")
        case Mark(words, _):
            return _cell(words, language)
        case Link(words, section):
            return f"[{_cell(words, language)}](#{section})"
        case _:
            return _plain(cell, language).replace("\n", "<br>")


@singledispatch
def _lines(block: Block, language: Language) -> list[str]:
    raise TypeError(f"no Markdown for {type(block).__name__}")


@_lines.register
def _(block: Prose, language: Language) -> list[str]:
    return [_plain(block.words, language)]


@_lines.register
def _(block: Heading, language: Language) -> list[str]:
    mark = f" ({_plain(block.mark.words, language)})" if block.mark else ""
    return [f"### {_plain(block.words, language)}{mark}"]


@_lines.register
def _(block: Bullets, language: Language) -> list[str]:
    return [f"- {_plain(item, language)}" for item in block.items]


@_lines.register
def _(block: Table, language: Language) -> list[str]:
    rule = ("--:" if column in block.numeric else "---" for column in range(len(block.head)))
    rows = [[_cell(cell, language) for cell in row] for row in (block.head, *block.rows)]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], f"|{'|'.join(rule)}|", *lines[1:]]


@_lines.register
def _(block: Code, language: Language) -> list[str]:
    width = len(str(max(block.numbers, default=0)))
    text = [f"{number:>{width}}  {line}" for number, line in zip(block.numbers, block.lines,
            strict=True)] if block.numbers else list(block.lines)  # fmt: skip
    fence = "`" * max(3, 1 + max(map(len, re.findall("`+", "\n".join(text))), default=0))
    return [fence + "text", *text, fence]


@_lines.register
def _(block: Figure, language: Language) -> list[str]:
    """A picture is for the page; here its content in a sentence."""
    return [f"*{_plain(block.caption, language)}.* {_plain(block.alternative, language)}"]
