# SPDX-License-Identifier: Apache-2.0
"""One pass over logs of any length: which signatures fire, where, and how far the server came.

What makes it fast: a log of many megabytes says few different things. Lines that are the same but
for their numbers are looked at a limited number of times. Memory does not grow with the log: a
window of lines, a bounded number of such forms, and a few lines of evidence per signature are kept.
"""

import re
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache

from vllm_ascend_bringup.tools.diagnose.base import Excerpt, Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.log_line import (
    Level,
    LogLine,
    parse,
    source_of,
    without_ansi,
)

_WINDOW = 400  # lines kept for context, over all processes
_LONG = 1 << 11  # characters of a line that are kept for context, and tell its form
_TRACEBACK = "Traceback (most recent call last)"
_FORMS = 100_000  # forms of lines remembered, and lines
_LOOKS = 64  # lines of one form that are looked at: ranks, error codes
# What tells two lines apart: the process, and the end of the message, not the time between.
_START, _END = 24, 160
# What differs between lines of one form: numbers, and ids in hexadecimal.
_VARYING = b"0123456789abcdefABCDEF"
# A server that is told to stop reports its own engine as dead.
_STOP = re.compile(r"INFO:\s+Shutting down$|\[shutdown\] API server: shutdown triggered")
# Whatever it answered, a server that answers requests was up.
_ANSWER = re.compile(r'"POST /v1/\S+ HTTP/')
SERVED = 2  # answers after which a server has served
_GUESSES = 4096  # patterns tried for a guess; each reads the lines before
_EVIDENCE = 3  # lines per signature and strength
_TEXT = 400  # characters of a quoted line


@dataclass
class Hits:
    """What fired for one signature, the strongest first."""

    signature: Signature
    says: Says
    order: int
    loose: bool  # the pattern did not ask for the lines before
    when: str
    sources: set[str] = field(default_factory=set)
    excerpts: list[Excerpt] = field(default_factory=list)


@dataclass
class Story:
    """What the logs show: ``hits`` by signature id, and whether the server got to serve."""

    hits: dict[str, Hits] = field(default_factory=dict)
    ready: Excerpt | None = None
    answered: int = 0  # requests, counted to SERVED; a stream's status precedes its answer
    lines: int = 0


class Scanner:
    """Reads logs one after another into one story."""

    def __init__(self, signatures: Iterable[Signature]) -> None:
        self.story = Story()
        self._by_anchor: dict[str, list[tuple[Signature, Pattern]]] = {}
        for signature in signatures:
            for pattern in signature.patterns:
                self._by_anchor.setdefault(pattern.anchor, []).append((signature, pattern))
        self._any_anchor = _any_of(self._by_anchor)
        noted = {a for a, found in self._by_anchor.items() if any(p.notes for _, p in found)}
        self._noted = _any_of(noted) if noted else None
        self._forms: dict[bytes, int] = {}
        self._seen: set[str] = set()
        self._window: deque[str] = deque(maxlen=_WINDOW)
        self._stopping = False
        self._guessed = 0

    def read(self, lines: Iterable[str], file: str | None = None) -> None:
        """Read one log. ``file`` is its name, where there is more than one."""
        window, seen, forms, story = self._window, self._seen, self._forms, self.story
        window.clear()
        self._stopping = False
        number = 0
        for number, line in enumerate(lines, 1):
            window.append(line[:_LONG])
            if story.answered < SERVED and '" 200' in line and '"POST' in line:
                story.answered += 1  # here, as a client that keeps its connection repeats the line
            ends_of_line = line[:_START] + line[-_END:]
            if ends_of_line in seen:
                continue
            form = line[:_LONG].encode("utf-8", "replace").translate(None, _VARYING)
            looks = forms.get(form, 0)
            if looks == _LOOKS:
                continue
            if looks or len(forms) < _FORMS:
                forms[form] = looks + 1
            if len(seen) < _FORMS:
                seen.add(ends_of_line)
            self._look(number, line, file, story.lines + number)
        story.lines += number

    def _look(self, number: int, line: str, file: str | None, order: int) -> None:
        text = without_ansi(line)
        self._follow_serving(number, text, file)
        parsed = parse(text)
        lowered = parsed.message.lower()
        note = parsed.level is Level.NOTE
        anchors = self._noted if note else self._any_anchor
        if anchors is None or anchors.search(lowered) is None:
            return
        reports_error = parsed.reports_error
        echoes = parsed.level is Level.ERROR and not self._stopping
        before = cache(lambda: self._before(parsed))
        guesses = self._guessed < _GUESSES
        for anchor, patterns in self._by_anchor.items():
            if anchor not in lowered:
                continue
            for signature, pattern in patterns:
                if pattern.says is Says.GUESS:
                    if not guesses:
                        continue
                    self._guessed += 1
                if note:
                    counts = pattern.notes
                elif pattern.says is Says.ECHO:
                    counts = echoes
                else:
                    counts = reports_error or pattern.warns or pattern.notes
                if not counts:
                    continue
                match = pattern.found(parsed.message, before)
                if match is not None:
                    excerpt = Excerpt(number, _shortened(text, match.group()), file)
                    self._add(signature, pattern, excerpt, parsed, order)

    def _follow_serving(self, number: int, text: str, file: str | None) -> None:
        if "startup complete" in text or (
            '"POST' in text and self.story.ready is None and _ANSWER.search(text)
        ):
            self.story.ready = Excerpt(number, _shortened(text, ""), file)
        elif _STOP.search(text):
            self._stopping = True

    def _before(self, parsed: LogLine) -> str:
        """The lines of the same process before this one, from its traceback on, and itself.

        All lines where the process has no other: what a driver says of its workers.
        """
        lines: list[str] = []
        for line in reversed(self._window):
            line = without_ansi(line)
            if source_of(line) == parsed.source:
                lines.append(line)
                if _TRACEBACK in line:
                    break
        if len(lines) == 1:
            return "\n".join(self._window)
        return "\n".join(reversed(lines))

    def _add(
        self, signature: Signature, pattern: Pattern, excerpt: Excerpt, parsed: LogLine, order: int
    ) -> None:
        hits = self.story.hits.get(signature.id)
        if hits is None or pattern.says > hits.says:
            weaker = hits.excerpts if hits else []
            sources = hits.sources if hits else set()
            loose = not pattern.near
            hits = Hits(
                signature, pattern.says, order, loose, parsed.when, sources, [excerpt, *weaker]
            )
            self.story.hits[signature.id] = hits
            del hits.excerpts[_EVIDENCE:]
        elif len(hits.excerpts) < _EVIDENCE and excerpt not in hits.excerpts:
            hits.excerpts.append(excerpt)
        hits.sources.add(parsed.source)


def _any_of(anchors: Iterable[str]) -> re.Pattern[str]:
    """Finds any of the texts. Grouped by first character: re tries alternatives one by one."""
    ends: dict[str, list[str]] = {}
    for anchor in anchors:
        ends.setdefault(anchor[0], []).append(re.escape(anchor[1:]))
    return re.compile("|".join(f"{re.escape(c)}(?:{'|'.join(e)})" for c, e in ends.items()))


def _shortened(text: str, matched: str) -> str:
    """At most some hundred characters of a line, around what matched."""
    text = text.strip()
    if len(text) <= _TEXT:
        return text
    start = max(0, text.find(matched) - _TEXT // 4)
    end = start + _TEXT
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def read_logs(
    logs: Sequence[tuple[str | None, Iterable[str]]], signatures: Iterable[Signature]
) -> Story:
    """Read all logs, in the order given, into one story."""
    scanner = Scanner(signatures)
    for file, lines in logs:
        scanner.read(lines, file)
    return scanner.story
