# SPDX-License-Identifier: Apache-2.0
"""A few shapes and words in SVG, sized so that nothing leaves the picture.

One unit is one CSS pixel where the picture is as wide as its ``viewBox``. Colours are the page's
classes, so that pictures follow its light and dark schemes.
"""

import unicodedata
from collections.abc import Callable
from html import escape
from typing import Literal

from vllm_ascend_bringup.language import Language, Text
from vllm_ascend_bringup.tools.report.blocks import Figure

FONT_SIZE = 13
LINE = 18
_WIDE, _NARROW = 952, 340
# Advance of letters in em: CJK is square; of Latin words in the usual sans-serif faces, Verdana's
# are the widest with 0.58 on average.
_LATIN, _SQUARE = 0.62, 1.0


class Canvas:
    """Collects shapes from top to bottom; ``y`` is where the next free line begins."""

    def __init__(self, width: int, language: Language) -> None:
        self.width, self.language = width, language
        self.y = 0.0
        self._parts: list[str] = []

    def rect(self, x: float, y: float, width: float, height: float, style: str) -> None:
        """A filled rectangle; nothing if it has no area."""
        if width > 0 and height > 0:
            self._parts.append(
                f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
                f'height="{height:.1f}"/>'
            )

    def line(self, x1: float, y1: float, x2: float, y2: float, style: str) -> None:
        """A straight line."""
        self._parts.append(
            f'<line class="{style}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'
        )

    def path(self, steps: str, style: str) -> None:
        """SVG path data of numbers and letters."""
        self._parts.append(f'<path class="{style}" d="{steps}"/>')

    def text(
        self, x: float, y: float, words: str, style: str = "",
        anchor: Literal["start", "middle", "end"] = "start",
    ) -> None:  # fmt: skip
        """One line of words, moved sideways if it would leave the picture. ``y``: its baseline."""
        width = text_width(words)
        before = {"start": 0.0, "middle": width / 2, "end": width}[anchor]
        x = min(max(x, before), self.width - width + before)
        self._parts.append(
            f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
            f"{escape(words)}</text>"
        )

    def paragraph(self, x: float, words: str, width: float, style: str = "") -> None:
        """Words from ``y`` on in lines of at most ``width``."""
        for line in wrapped(words, width):
            self.text(x, self.y + FONT_SIZE, line, style)
            self.y += LINE

    def svg(self, shape: Literal["wide", "narrow"], label: str) -> str:
        """The picture as high as ``y``."""
        body = "".join(self._parts)
        return (
            f'<svg class="{shape}" role="img" aria-label="{escape(label)}" '
            f'viewBox="0 0 {self.width} {self.y:.0f}" font-size="{FONT_SIZE}">'
            f"<title>{escape(label)}</title>{body}</svg>"
        )


def text_width(words: str) -> float:
    """Most that a line of words takes."""
    return FONT_SIZE * sum(
        _SQUARE if unicodedata.east_asian_width(letter) in "WF" else _LATIN for letter in words
    )


def wrapped(words: str, width: float) -> list[str]:
    """Lines of at most ``width``, broken at spaces, beside CJK letters, else anywhere."""
    lines, line = [], ""
    for word in _breakable(words):
        if text_width((line + word).rstrip()) <= width:
            line += word
            continue
        lines.append(line.rstrip())
        line = word.lstrip()
        while text_width(line) > width:
            fits = max(1, int(width / FONT_SIZE))
            lines.append(line[:fits])
            line = line[fits:]
    return [line for line in (*lines, line.rstrip()) if line]


def _breakable(words: str) -> list[str]:
    """Pieces between which a line may end."""
    pieces, piece = [], ""
    for letter in words:
        piece += letter
        if letter == " " or unicodedata.east_asian_width(letter) in "WF":
            pieces.append(piece)
            piece = ""
    return [*pieces, piece]


def figure(caption: Text, alternative: Text, draw: Callable[[Canvas], None]) -> Figure:
    """Draw it in both languages, for a page and for a phone."""

    def drawn(shape: Literal["wide", "narrow"], width: int, language: Language) -> str:
        canvas = Canvas(width, language)
        draw(canvas)
        return canvas.svg(shape, alternative.zh if language == "zh" else alternative.en)

    wide = Text(drawn("wide", _WIDE, "en"), drawn("wide", _WIDE, "zh"))
    return Figure(
        caption, alternative, wide,
        Text(drawn("narrow", _NARROW, "en"), drawn("narrow", _NARROW, "zh")),
    )  # fmt: skip
