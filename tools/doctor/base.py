# SPDX-License-Identifier: Apache-2.0
"""What a rule is and what it finds. Rules see facts and nothing else: they read no file."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import Facts

ERROR, WARNING, NOTE = "error", "warning", "note"
SEVERITIES = (ERROR, WARNING, NOTE)


@dataclass(frozen=True)
class Evidence:
    """One thing that was measured. ``expected``: the threshold, or what would have been right."""

    what: str | Text
    found: str | Text
    expected: str | Text


@dataclass(frozen=True)
class Judgement:
    """What a rule says about the facts.

    ``error``: serving fails or answers wrongly. ``warning``: it may. ``note``: good to know.
    """

    severity: str
    evidence: tuple[Evidence, ...]
    actions: tuple[Text, ...]


@dataclass(frozen=True)
class Finding:
    """A judgement, and which rule gave it."""

    id: str
    severity: str
    title: Text
    evidence: tuple[Evidence, ...]
    actions: tuple[Text, ...]


@dataclass(frozen=True)
class Rule:
    """``judge`` names as its parameters the fields of Facts that it looks at.

    It is called only where all of them are known, but for those with None as their default.
    ``title``: what it is about, not what is wrong.
    """

    id: str
    title: Text
    judge: Callable[..., Iterable[Judgement]]

    @property
    def needs(self) -> tuple[str, ...]:
        """Fields of Facts without which there is nothing to judge."""
        parameters = inspect.signature(self.judge).parameters.values()
        return tuple(p.name for p in parameters if p.default is inspect.Parameter.empty)

    def unknown(self, facts: Facts) -> str | None:
        """The first field that it needs and that could not be checked."""
        return next((name for name in self.needs if getattr(facts, name) is None), None)

    def apply(self, facts: Facts) -> tuple[Finding, ...]:
        """Nothing where a field that it needs is unknown."""
        if self.unknown(facts):
            return ()
        names = inspect.signature(self.judge).parameters
        seen: dict[str, Any] = {name: getattr(facts, name) for name in names}
        return tuple(
            Finding(self.id, found.severity, self.title, found.evidence, found.actions)
            for found in self.judge(**seen)
        )


def error(*evidence: Evidence, do: Text | tuple[Text, ...]) -> Judgement:
    """Serving fails or answers wrongly."""
    return Judgement(ERROR, evidence, do if isinstance(do, tuple) else (do,))


def warning(*evidence: Evidence, do: Text | tuple[Text, ...]) -> Judgement:
    """Serving may fail, or costs more than it has to."""
    return Judgement(WARNING, evidence, do if isinstance(do, tuple) else (do,))


def note(*evidence: Evidence, do: Text | tuple[Text, ...]) -> Judgement:
    """Good to know."""
    return Judgement(NOTE, evidence, do if isinstance(do, tuple) else (do,))
