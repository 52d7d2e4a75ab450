# SPDX-License-Identifier: Apache-2.0
"""One pass over logs of any length: which signatures fire, where, and how far the server came.

What makes it fast: a log of many megabytes says few different things. Lines that are the same but
for their numbers are looked at a limited number of times. Memory does not grow with the log: a
window of lines, a bounded number of such forms, and a few lines of evidence per signature are kept.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vllm_ascend_bringup.tools.diagnose.base import Excerpt, Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.log_line import (
    Level,
    LogLine,
    parse,
    source_of,
    without_ansi,
)

_WINDOW = 400  # lines kept for context, over all processes
_TRACEBACK = "Traceback (most recent call last)"
_FORMS = 100_000  # forms of lines remembered, and ends of lines
_LOOKS = 64  # lines of one form that are looked at: ranks, error codes
_END = 160  # characters at the end of a line, behind time stamp and process
# What differs between lines of one form: numbers, and ids in hexadecimal.
_VARYING = b"0123456789abcdefABCDEF"
_EVIDENCE = 3  # lines per signature and strength
_TEXT = 400  # characters of a quoted line


@dataclass
class Hits:
    """What fired for one signature, the strongest first."""

    signature: Signature
    says: Says
    order: int
    when: str
    sources: set[str] = field(default_factory=set)
    excerpts: list[Excerpt] = field(default_factory=list)


@dataclass
class Story:
    """What the logs show: ``hits`` by signature id, and whether the server got to serve."""

    hits: dict[str, Hits] = field(default_factory=dict)
    ready: Excerpt | None = None
    served: bool = False
    lines: int = 0


class Scanner:
    """Reads logs one after another into one story."""

    def __init__(self, signatures: Iterable[Signature]) -> None:
        self.story = Story()
        self._by_anchor: dict[str, list[tuple[Signature, Pattern]]] = {}
        for signature in signatures:
            for pattern in signature.patterns:
                self._by_anchor.setdefault(pattern.anchor, []).append((signature, pattern))
        self._forms: dict[bytes, int] = {}
        self._ends: set[str] = set()
        self._window: deque[str] = deque(maxlen=_WINDOW)

    def read(self, lines: Iterable[str], file: str | None = None) -> None:
        """Read one log. ``file`` is its name, where there is more than one."""
        window, ends, forms, story = self._window, self._ends, self._forms, self.story
        window.clear()
        number = 0
        for number, line in enumerate(lines, 1):
            window.append(line)
            end = line[-_END:]
            if end in ends:
                continue
            form = line.encode("utf-8", "replace").translate(None, _VARYING)
            looks = forms.get(form, 0)
            if looks == _LOOKS:
                continue
            if len(forms) < _FORMS:
                forms[form] = looks + 1
            if len(ends) < _FORMS:
                ends.add(end)
            self._look(number, line, file, story.lines + number)
        story.lines += number

    def _look(self, number: int, line: str, file: str | None, order: int) -> None:
        text = without_ansi(line)
        self._follow_serving(number, text, file)
        parsed = parse(text)
        if parsed.level is Level.NOTE:
            return
        reports_error = parsed.reports_error
        lowered = parsed.message.lower()
        for anchor, patterns in self._by_anchor.items():
            if anchor not in lowered:
                continue
            for signature, pattern in patterns:
                if not (reports_error or pattern.warns):
                    continue
                match = pattern.found(parsed.message, lambda: self._before(parsed))
                if match is not None:
                    excerpt = Excerpt(number, _shortened(text, match.group()), file)
                    self._add(signature, pattern.says, excerpt, parsed, order)

    def _follow_serving(self, number: int, text: str, file: str | None) -> None:
        if "startup complete" in text:
            self.story.ready = Excerpt(number, _shortened(text, ""), file)
        elif '" 200' in text and '"POST' in text:
            self.story.served = True

    def _before(self, parsed: LogLine) -> str:
        """The lines of the same process before this one, from its traceback on, and itself."""
        lines: list[str] = []
        for line in reversed(self._window):
            line = without_ansi(line)
            if source_of(line) == parsed.source:
                lines.append(line)
                if _TRACEBACK in line:
                    break
        return "\n".join(reversed(lines))

    def _add(
        self, signature: Signature, says: Says, excerpt: Excerpt, parsed: LogLine, order: int
    ) -> None:
        hits = self.story.hits.get(signature.id)
        if hits is None or says > hits.says:
            weaker = hits.excerpts if hits else []
            sources = hits.sources if hits else set()
            hits = Hits(signature, says, order, parsed.when, sources, [excerpt, *weaker])
            self.story.hits[signature.id] = hits
            del hits.excerpts[_EVIDENCE:]
        elif len(hits.excerpts) < _EVIDENCE and excerpt not in hits.excerpts:
            hits.excerpts.append(excerpt)
        hits.sources.add(parsed.source)


def _shortened(text: str, matched: str) -> str:
    """At most some hundred characters of a line, around what matched."""
    text = text.strip()
    if len(text) <= _TEXT:
        return text
    start = max(0, text.find(matched) - _TEXT // 4)
    end = start + _TEXT
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")


def scan(
    logs: Sequence[tuple[str | None, Iterable[str]]], signatures: Iterable[Signature]
) -> Story:
    """Read all logs, in the order given, into one story."""
    scanner = Scanner(signatures)
    for file, lines in logs:
        scanner.read(lines, file)
    return scanner.story
