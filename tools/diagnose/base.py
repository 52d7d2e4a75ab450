# SPDX-License-Identifier: Apache-2.0
"""What a log signature is, and what ``bringup diagnose`` finds with it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

from vllm_ascend_bringup.language import Text


@dataclass(frozen=True)
class Excerpt:
    """A line of the log that is evidence; lines count from one.

    ``file``: which log, where there is more than one.
    """

    line: int
    text: str
    file: str | None = None


@dataclass(frozen=True)
class Finding:
    """A cause, the lines that show it and what to do. ``confidence``: above 0, at most 1."""

    id: str
    confidence: float
    title: Text
    evidence: tuple[Excerpt, ...]
    actions: tuple[Text, ...]


class Says(IntEnum):
    """How much a line says about why the run ended; findings are ranked by it first.

    A line that gives the reason outranks one that names what failed, wherever they stand: the
    runtime prints a code, then what failed, then the reason, and wrappers repeat the first.
    """

    ECHO = 1  # that something failed: wrappers, shutdown, what follows any failure
    GUESS = 2  # an unknown exception, by its type and by the code that raised it
    CODE = 3  # a number or a fault that several causes share, or that follows another
    WHAT = 4  # what failed, in words
    WHY = 5  # the reason itself


@dataclass(frozen=True)
class Pattern:
    """One kind of line: it holds ``anchor`` and matches ``regex``, both in any case.

    ``anchor`` is lower-case text; the search for it is the fast path, so it is rare in a log.
    ``regex``: empty if the anchor says it all.
    ``near``, ``apart``: what the lines before it (same process, same traceback) must and must not
    match. ``when``: a last question to the match. ``warns``: a warning of this kind is evidence
    too; others are not. ``notes``: information is too.
    """

    anchor: str
    regex: str = ""
    says: Says = Says.WHY
    near: str = ""
    apart: str = ""
    when: Callable[[re.Match[str]], bool] | None = None
    warns: bool = False
    notes: bool = False

    def __post_init__(self) -> None:
        if self.anchor != self.anchor.lower() or len(self.anchor) < 2:
            raise ValueError(f"anchor {self.anchor!r}: expected at least 2 characters, lower case")
        for regex in (self.regex, self.near, self.apart):
            re.compile(regex)

    @cached_property
    def _compiled(self) -> tuple[re.Pattern[str], ...]:
        own = self.regex or re.escape(self.anchor)
        return tuple(re.compile(r, re.IGNORECASE) for r in (own, self.near, self.apart))

    def found(self, message: str, before: Callable[[], str]) -> re.Match[str] | None:
        """Where ``message`` matches. ``before`` gives the lines before it, if they are needed."""
        own, near, apart = self._compiled
        match = own.search(message)
        if match is None or (self.when is not None and not self.when(match)):
            return None
        if self.near and not near.search(before()):
            return None
        if self.apart and apart.search(before()):
            return None
        return match


@dataclass(frozen=True)
class Signature:
    """One cause and how logs show it.

    ``waits``: the process only waited for another one, so a fault elsewhere comes first.
    """

    id: str
    title: Text
    actions: tuple[Text, ...]
    patterns: tuple[Pattern, ...]
    waits: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.id):
            raise ValueError(f"signature {self.id!r}: expected lower-case words joined by hyphens")
        if not (self.actions and self.patterns):
            raise ValueError(f"signature {self.id}: expected actions and patterns")
