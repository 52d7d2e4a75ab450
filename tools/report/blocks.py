# SPDX-License-Identifier: Apache-2.0
"""What a report is made of. Sections are built once; the page and the Markdown draw the same ones.

Values only. A ``Text`` has both languages and is said in one when drawn; a ``str`` (a name, a
number, a log line) has none.
"""

from dataclasses import dataclass
from typing import Literal

from vllm_ascend_bringup.language import Text

Words = Text | str
# Colour and sign of a state; never the colour alone.
Tone = Literal["good", "bad", "warn", "plain"]


@dataclass(frozen=True)
class Mark:
    """A state in a word, with its tone."""

    words: Words
    tone: Tone


@dataclass(frozen=True)
class Literally:
    """What a machine said or takes: drawn in a fixed-width face, lines kept."""

    text: Words


@dataclass(frozen=True)
class Link:
    """To a section of this report, by its id; drawn as the section's title."""

    section: str


Cell = Text | str | Mark | Literally | Link


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    words: Words


@dataclass(frozen=True)
class Heading:
    """A heading below the section's own, with a mark beside it."""

    words: Words
    mark: Mark | None = None


@dataclass(frozen=True)
class Bullets:
    """A list of paragraphs."""

    items: tuple[Words, ...]


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first cell of a row names it.

    ``numeric``: columns set flush right. ``compact``: its cells are so short that it stays a table
    on a phone; rows of others become cards there.
    """

    head: tuple[Words, ...]
    rows: tuple[tuple[Cell, ...], ...]
    numeric: frozenset[int] = frozenset()
    compact: bool = False


@dataclass(frozen=True)
class Code:
    """Lines of a command or a log. ``numbers``: the lines' own numbers, or none."""

    lines: tuple[str, ...]
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Figure:
    """A picture. ``drawings``: the same in SVG for a wide page and for a phone, by language.

    ``caption``: what it shows; ``alternative``: its content in a sentence, for those who do not
    see it. The numbers themselves are in a table beside it.
    """

    caption: Text
    alternative: Text
    wide: Text
    narrow: Text


Block = Prose | Heading | Bullets | Table | Code | Figure


@dataclass(frozen=True)
class Section:
    """One part of the report. ``id``: its anchor."""

    id: str
    title: Text
    blocks: tuple[Block, ...]
