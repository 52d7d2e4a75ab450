# SPDX-License-Identifier: Apache-2.0
"""The memory budget of one card, as a bar of its parts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.language import Text, said
from vllm_ascend_bringup.tools.report.blocks import Block, Prose, Section, Table
from vllm_ascend_bringup.tools.report.drawing import FONT_SIZE, LINE, Canvas, figure, text_width
from vllm_ascend_bringup.tools.report.words import size
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Memory of one card", "单卡显存预算")
_HEAD = (Text("part", "组成"), Text("size", "大小"), Text("share", "占比"), Text("formula", "公式"))
_FREE = Text("left over", "剩余")
_FREE_FORMULA = Text("the card less all of the above", "单卡显存减去以上各项")
_BAR = 34
# Width of the key, so that a size stands near its name.
_KEY = 400
_COLOURS = 8


@dataclass(frozen=True)
class _Part:
    """``style``: the class of its colour."""

    title: Text
    nbytes: int
    style: str
    formula: Text


def section(validation: Validation) -> Section:
    """The bar, and each part's formula."""
    memory = (validation.plan or {}).get("memory")
    if not memory:
        nothing = Text(
            "No plan was made, so there is no budget.", "没有生成规划，因此没有显存预算。"
        )
        return Section("memory", _TITLE, (Prose(nothing),))
    card, usable = int(memory["card_bytes"]), int(memory["usable_bytes"])
    parts = _parts(memory)
    free = int(memory["free_bytes"])
    alternative = Text(
        "A card of {card}, of which vLLM may use {usable}. {parts}.",
        "单卡显存 {card}，其中 vLLM 可用 {usable}。{parts}。",
    ).format(card=size(card), usable=size(usable), parts=_listed(parts))
    rest = _Part(_FREE, max(0, free), "rest", _FREE_FORMULA)
    whole = [part for part in (*parts, rest) if part.nbytes > 0]
    picture = figure(
        Text("What fills a card", "单卡显存的去向"),
        alternative,
        lambda canvas: _draw(canvas, whole, card, usable),
    )
    rows = tuple(
        (part.title, size(part.nbytes), f"{part.nbytes / card:.1%}", part.formula) for part in whole
    )
    blocks: list[Block] = [picture, Table(_HEAD, rows, frozenset({1, 2}))]
    if free < 0:
        excess = Text("It does not fit: {lacking} are lacking.", "显存不足：缺少 {lacking}。")
        blocks.insert(0, Prose(excess.format(lacking=size(-free))))
    return Section("memory", _TITLE, tuple(blocks))


def _parts(memory: Mapping[str, Any]) -> list[_Part]:
    return [
        _Part(_text(part["title"]), int(part["bytes"]), f"part part{place % _COLOURS}",
              _text(part["formula"]))
        for place, part in enumerate(memory["parts"])
    ]  # fmt: skip


def _text(both: Mapping[str, str]) -> Text:
    return Text(both["en"], both["zh"])


def _listed(parts: list[_Part]) -> Text:
    english = ", ".join(f"{part.title.en} {size(part.nbytes)}" for part in parts)
    chinese = "，".join(f"{part.title.zh} {size(part.nbytes)}" for part in parts)
    return Text(english, chinese)


def _draw(canvas: Canvas, parts: list[_Part], card: int, usable: int) -> None:
    """The bar to scale, the limit of what vLLM may use, and a row of words per part."""
    total = max(card, sum(part.nbytes for part in parts))
    limit = canvas.width * usable / total
    words = Text("vLLM may use {size}", "vLLM 可用 {size}").format(size=size(usable))
    canvas.text(limit, FONT_SIZE, str(said(words, canvas.language)), anchor="end")
    top, left = FONT_SIZE + 9.0, 0.0
    for part in parts:
        width = canvas.width * part.nbytes / total
        canvas.rect(left, top, max(0.0, width - 2), _BAR, part.style)
        share = f"{part.nbytes / card:.0%}"
        # Bold letters and percent signs are wider than text_width's average.
        if part.style.startswith("part ") and 1.4 * text_width(share) + 10 <= width:
            canvas.text(left + 6, top + _BAR / 2 + 5, share, "on-part")
        left += width
    # Over the bar: where the parts are more than vLLM may use, the line cuts through them.
    canvas.line(limit, top, limit, top + _BAR, "edge")
    canvas.line(limit, FONT_SIZE + 5, limit, top + _BAR + 5, "limit")
    canvas.y = top + _BAR + 14
    column = min(canvas.width, _KEY)
    for part in parts:
        canvas.rect(0, canvas.y + 3, 12, 12, part.style)
        amount = size(part.nbytes)
        canvas.text(column, canvas.y + FONT_SIZE, amount, "number", anchor="end")
        title = str(said(part.title, canvas.language))
        canvas.paragraph(20, title, column - 32 - text_width(amount))
    canvas.y += LINE / 3
