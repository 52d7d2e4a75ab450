# SPDX-License-Identifier: Apache-2.0
"""What a recipe says. See ``docs/recipes.md`` for the file format."""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any, Literal

from packaging.version import InvalidVersion, Version
from pydantic import Field, field_validator, model_validator

from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.recipes.rules import Rule, Strict

_ABSENT = object()
# Keys of the outer table that say something about the inner one's weights.
_OF_ANY_CONFIG = ("dtype", "torch_dtype", "quantization_config", "tie_word_embeddings")


class Override(Strict):
    """A change of one key of ``config.json``.

    ``was``: the value it must have (by default the key must be absent), so that a change upstream
    is noticed; ``was_one_of``: several; ``if_absent``: leave the key as it is if it is there. Then
    ``now``; or ``copy_of`` another key, perhaps ``divided_by`` a whole number or translated by a
    ``table``, and if ``optional``, only where that key is; or ``remove``.
    """

    was: Any = None
    was_one_of: tuple[Any, ...] | None = Field(default=None, strict=False)
    now: Any = None
    copy_of: str | None = None
    divided_by: int = Field(default=1, gt=0)
    table: Mapping[str, Any] | None = None
    optional: bool = False
    if_absent: bool = False
    remove: bool = False

    @model_validator(mode="after")
    def _check(self) -> "Override":
        given = self.model_fields_set
        if ("now" in given) + ("copy_of" in given) + self.remove != 1:
            raise ValueError("expected exactly one of now, copy_of, remove = true")
        if len(given & {"was", "was_one_of", "if_absent"}) > 1:
            raise ValueError("expected only one of was, was_one_of, if_absent")
        alone = given & {"divided_by", "table", "optional"}
        if alone and "copy_of" not in given:
            raise ValueError(f"{alone.pop()} goes with copy_of")
        return self

    def apply(self, key: str, old: Mapping[str, Any], new: dict[str, Any], where: str) -> None:
        """Change ``key`` of ``new``, given the config as it was.

        Raises RecipeError if it was not as stated.
        """
        if (self.if_absent and key in old) or (self.optional and self.copy_of not in old):
            return
        self._check_old(key, old, where)
        if self.remove:
            new.pop(key, None)
        else:
            new[key] = self.now if self.copy_of is None else self._copied(key, old, where)

    def _check_old(self, key: str, old: Mapping[str, Any], where: str) -> None:
        found = old.get(key, _ABSENT)
        if self.was_one_of is not None:
            fits, stated = found in self.was_one_of, f"one of {list(self.was_one_of)!r}"
        elif "was" in self.model_fields_set:
            fits, stated = found == self.was, repr(self.was)
        else:
            fits, stated = found is _ABSENT or self.copy_of == key, "not there"
        if not fits:
            shown = "is not there" if found is _ABSENT else f"is {found!r}"
            raise RecipeError(
                f"{where}: {key} {shown} in config.json",
                f"the old value that the recipe states: {stated}",
                "check what the new value means for this model, then correct the recipe",
            )

    def _copied(self, key: str, old: Mapping[str, Any], where: str) -> Any:
        value, expected = old.get(str(self.copy_of), _ABSENT), None
        if value is _ABSENT:
            raise RecipeError(
                f"{where}: {key} is to be a copy of {self.copy_of}, which config.json lacks",
                f"a key {self.copy_of}",
                "correct the recipe: this config.json is of another shape",
            )
        if self.table is not None:
            if value in self.table:
                return self.table[value]
            expected = "one of " + ", ".join(self.table)
        elif self.divided_by != 1 and (not isinstance(value, int) or value % self.divided_by):
            expected = f"a multiple of {self.divided_by}"
        if expected:
            raise RecipeError(
                f"{where}: {self.copy_of} is {value!r} in config.json",
                expected,
                "correct the recipe: this config.json is of another shape",
            )
        return value if self.divided_by == 1 else value // self.divided_by


class Stack(Strict):
    """A tensor that the class wants as shard ``shard`` of a fused parameter, by a substring of its
    key: vLLM's ``WeightsMapper.orig_to_new_stacked``.
    """

    substring: str = Field(min_length=1)
    to: str
    shard: int | str


class Split(Strict):
    """A fused tensor that the class wants in pieces: its rows go to ``into``, in this order.

    ``rows``: ``equal`` parts; ``qkv``: all query heads, then the key and the value heads;
    ``qkv_by_group``: the same for each KV head with its query heads (InternLM2, Falcon).
    """

    substring: str = Field(min_length=1)
    into: tuple[str, ...] = Field(min_length=2, strict=False)
    rows: Literal["equal", "qkv", "qkv_by_group"]

    @model_validator(mode="after")
    def _check(self) -> "Split":
        if self.rows != "equal" and len(self.into) != 3:
            raise ValueError(f'rows = "{self.rows}" makes three pieces')
        return self


class Recipe(Strict):
    """How to serve an architecture, which may go by several names. ``source``: the file it was
    read from.

    ``config_of``: a table of ``config.json``, such as ``text_config``, that takes the place of the
    whole before ``config`` is applied. ``serve_as``: ``module:Class`` or an architecture that vLLM
    has; absent: vLLM's class of the same name. ``rule``, then ``split``, then ``stack`` change
    keys. Globs in ``expected_missing`` (parameters) and ``expected_unused`` (tensors) excuse
    leftovers.
    """

    source: str = Field(exclude=True)
    architecture: tuple[str, ...] = Field(min_length=1, strict=False)
    serve_as: str | None = Field(default=None, min_length=1)
    min_vllm: str | None = None
    qk_norm: Literal["none", "per head", "whole projection"] | None = None
    notes: tuple[str, ...] = Field(default=(), strict=False)
    config_of: str | None = None
    config: Mapping[str, Override] = Field(default_factory=dict)
    rule: tuple[Rule, ...] = Field(default=(), strict=False)
    split: tuple[Split, ...] = Field(default=(), strict=False)
    stack: tuple[Stack, ...] = Field(default=(), strict=False)
    expected_missing: tuple[str, ...] = Field(default=(), strict=False)
    expected_unused: tuple[str, ...] = Field(default=(), strict=False)

    @field_validator("architecture", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @field_validator("min_vllm")
    @classmethod
    def _is_version(cls, value: str | None) -> str | None:
        try:
            Version(value or "0")
        except InvalidVersion as error:
            raise ValueError(str(error)) from None
        return value

    @field_validator("rule")
    @classmethod
    def _no_rule_twice(cls, rules: tuple[Rule, ...]) -> tuple[Rule, ...]:
        # vLLM's WeightsMapper keeps one rule per regular expression.
        patterns = [rule.pattern.pattern for rule in rules]
        twice = {str(rule) for rule in rules if patterns.count(rule.pattern.pattern) > 1}
        if twice:
            raise ValueError(f"more than one rule for {', '.join(sorted(twice))}")
        return rules

    def changed_config(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """``config.json`` with the overrides. Raises RecipeError if an old value differs."""
        if self.config_of is not None:
            inner = config.get(self.config_of)
            if not isinstance(inner, Mapping):
                raise RecipeError(
                    f"{self.source}: config.json has no table {self.config_of}",
                    "the table that config_of names",
                    "correct the recipe: this config.json is of another shape",
                )
            config = {key: config[key] for key in _OF_ANY_CONFIG if key in config} | dict(inner)
        changed = dict(config)
        for key, override in self.config.items():
            override.apply(key, config, changed, self.source)
        return changed

    @property
    def changes_config(self) -> bool:
        """Whether the model's config differs from ``config.json``."""
        return bool(self.config) or self.config_of is not None

    def excuses_missing(self, parameter: str) -> bool:
        """Whether this parameter may stay unfilled."""
        return any(fnmatchcase(parameter, glob) for glob in self.expected_missing)

    def excuses_unused(self, key: str) -> bool:
        """Whether nothing need take this tensor."""
        return any(fnmatchcase(key, glob) for glob in self.expected_unused)
