# SPDX-License-Identifier: Apache-2.0
"""Rules that rename or drop the keys of a checkpoint, in the order they are written."""

import difflib
import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

from pydantic import BaseModel, ConfigDict, model_validator

from vllm_ascend_bringup.errors import RecipeError

_KINDS = ("prefix", "suffix", "substring", "regex")
_NUMBER = re.compile(r"\d+")
# At most so many nearest keys, and none less like the text than this (difflib's own cutoff).
_NEAREST, _LIKE = 3, 0.6


class Strict(BaseModel):
    """A table of a recipe: immutable, and a key it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Rule(Strict):
    """One rule: a ``prefix``, ``suffix``, ``substring`` (its first occurrence) or ``regex`` of a
    key, and what stands there afterwards (``to``), or ``drop`` for keys to leave out.

    ``optional``: matching nothing is no sign of a mistake.
    """

    prefix: str | None = None
    suffix: str | None = None
    substring: str | None = None
    regex: str | None = None
    to: str | None = None
    drop: bool = False
    optional: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Rule":
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        if len(given) != 1 or not getattr(self, given[0]):
            raise ValueError(f"expected exactly one of {', '.join(_KINDS)}, not empty")
        if self.drop == (self.to is not None):
            raise ValueError('expected either to = "..." or drop = true')
        try:
            self.pattern.sub(self._template, "")
        except (re.error, IndexError) as error:
            raise ValueError(f"bad regular expression: {error}") from None
        return self

    @property
    def kind(self) -> str:
        """Which of the four it is."""
        return next(kind for kind in _KINDS if getattr(self, kind) is not None)

    @property
    def text(self) -> str:
        """The prefix, suffix, substring or regular expression."""
        return str(getattr(self, self.kind))

    @cached_property
    def pattern(self) -> "re.Pattern[str]":
        """The rule as a regular expression that occurs at most once, except for ``regex``."""
        literal = re.escape(self.text)
        return re.compile({
            "prefix": rf"\A{literal}", "suffix": rf"{literal}\Z",
            "substring": rf"\A((?s:.*?)){literal}", "regex": self.text,
        }[self.kind])  # fmt: skip

    @property
    def _template(self) -> str:
        literal = (self.to or "").replace("\\", r"\\")
        return {"substring": rf"\g<1>{literal}", "regex": self.to or ""}.get(self.kind, literal)

    @property
    def replacement(self) -> str | None:
        """What ``pattern`` is replaced by, as ``re.sub`` takes it; None drops the key."""
        return None if self.drop else self._template

    def apply(self, key: str) -> str | None:
        """The key after this rule, the same if it does not match; None if it is dropped."""
        if not self.pattern.search(key):
            return key
        return None if self.drop else self.pattern.sub(self._template, key)

    def __str__(self) -> str:
        change = "drop" if self.drop else f"to {self.to!r}"
        return f"{self.kind} {self.text!r} {change}"


def rename(rules: Sequence[Rule], key: str) -> str | None:
    """``key`` after all rules; None if one drops it."""
    new: str | None = key
    for rule in rules:
        if new is None:
            return None
        new = rule.apply(new)
    return new


def steps(rules: Sequence[Rule], key: str) -> list[tuple[Rule, str | None]]:
    """What each rule makes of ``key``: those that match, in order, with the key after it."""
    made: list[tuple[Rule, str | None]] = []
    for rule in rules:
        if rule.pattern.search(key):
            new = rule.apply(key)
            made.append((rule, new))
            if new is None:
                break
            key = new
    return made


def rename_all(rules: Sequence[Rule], keys: Iterable[str], where: str) -> dict[str, str | None]:
    """Every key -> its new name, or None. Raises RecipeError if two keys get one name.

    ``where`` is for the message: the recipe's file.
    """
    renamed = {key: rename(rules, key) for key in keys}
    taken: dict[str, str] = {}
    for key, new in renamed.items():
        if new is not None:
            claim(new, key, taken, where)
    return renamed


def claim(new: str, key: str, taken: dict[str, str], where: str) -> None:
    """Note in ``taken`` that ``new`` is what ``key`` becomes. Raises RecipeError if another did."""
    if taken.setdefault(new, key) != key:
        raise RecipeError(
            f"{where}: {taken[new]} and {key} both become {new}",
            "a name of its own for every tensor",
            "narrow the rule that renames one of them (`bringup recipes explain` shows which)",
        )


def idle_rules(rules: Sequence[Rule], keys: Iterable[str]) -> list[str]:
    """A line for each rule that matches nothing, optional ones aside, with the nearest keys.

    A rule sees keys as the rules before it leave them.
    """
    left = list(keys)
    idle = []
    for rule in rules:
        if not rule.optional and not any(rule.pattern.search(key) for key in left):
            near = nearest(rule.text, left)
            idle.append(f"{rule} matches nothing; nearest: {', '.join(near) or 'none is like it'}")
        left = [new for key in left if (new := rule.apply(key)) is not None]
    return idle


def nearest(text: str, keys: Iterable[str]) -> list[str]:
    """The few keys most like ``text`` in whole, at their beginning or at their end.

    Numbers count as equal, so that layers do not crowd the list.
    """
    wanted = _NUMBER.sub("0", text)
    by_shape: Mapping[str, str] = {_NUMBER.sub("0", key): key for key in reversed(list(keys))}

    def likeness(shape: str) -> float:
        parts = {shape, shape[: len(wanted)], shape[-len(wanted) :]}
        return max(difflib.SequenceMatcher(None, part, wanted).ratio() for part in parts)

    scores = {shape: likeness(shape) for shape in by_shape}
    best = heapq.nlargest(_NEAREST, scores, key=lambda shape: scores[shape])
    return [by_shape[shape] for shape in best if scores[shape] > _LIKE]
