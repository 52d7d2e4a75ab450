# SPDX-License-Identifier: Apache-2.0
"""``bringup recipes``: which recipes there are, and what one makes of a key.

What it cannot see: whether vLLM's class takes the keys under their new names; that is for
``bringup audit``.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import Checkpoint, read_checkpoint
from vllm_ascend_bringup.errors import RecipeError, listed
from vllm_ascend_bringup.loaded import loaded_tensors
from vllm_ascend_bringup.recipes.recipe import Recipe
from vllm_ascend_bringup.recipes.rules import idle_rules, nearest, rename_all, steps
from vllm_ascend_bringup.recipes.sources import FoundRecipe, find_recipes
from vllm_ascend_bringup.settings import read_settings
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RecipeLine:
    """One architecture. ``state``: "in force", or why it is not."""

    architecture: str
    serve_as: str | None
    origin: str
    file: str
    state: str
    replaces: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One rule that changed the key; ``key`` after it, None if it was dropped."""

    rule: str
    key: str | None


@dataclass(frozen=True)
class Explanation:
    """What becomes of one key. ``result``: the names the class sees; none if it is dropped.

    ``warnings``: what else is wrong with the rules for this checkpoint.
    """

    key: str
    recipe: str
    steps: tuple[Step, ...]
    result: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"schema_version": SCHEMA_VERSION, "command": "recipes explain", **asdict(self)}


def list_recipes() -> list[RecipeLine]:
    """All recipes, by architecture."""
    native = installed_vllm()

    def state(architecture: str, found: FoundRecipe) -> str:
        if found.in_force(architecture, native.architectures):
            return "in force"
        return f"not needed: vLLM {native.version} has a class of its own"

    return [
        RecipeLine(
            architecture, found.recipe.serve_as, found.origin, found.recipe.source,
            state(architecture, found), found.replaces,
        )
        for architecture, found in sorted(find_recipes(read_settings().recipes).items())
    ]  # fmt: skip


def explain(key: str, model: str | Path) -> Explanation:
    """Rule by rule. Raises RecipeError if there is no recipe or no such key."""
    checkpoint = read_checkpoint(model)
    recipe = _recipe_of(checkpoint)
    keys = list(loaded_tensors(checkpoint))
    if key not in keys:
        near = listed(nearest(key, keys)) or "none is like it"
        raise RecipeError(
            f"{checkpoint.path} has no weight {key}", f"one of its keys; nearest: {near}",
            "give a key as the checkpoint spells it, scales aside",
        )  # fmt: skip
    rename_all(recipe.rule, keys, recipe.source)
    made = steps(recipe.rule, key)
    final = made[-1][1] if made else key
    more, result = _pieces(recipe, final)
    return Explanation(
        key, recipe.source, (*(Step(str(rule), after) for rule, after in made), *more), result,
        tuple(idle_rules(recipe.rule, keys)),
    )  # fmt: skip


def _recipe_of(checkpoint: Checkpoint) -> Recipe:
    architecture = str(checkpoint.config["architectures"][0])
    recipes: Mapping[str, FoundRecipe] = find_recipes(read_settings().recipes)
    if architecture not in recipes:
        raise RecipeError(
            f"no recipe for {architecture}",
            "one of " + listed(list(recipes), limit=20),
            "name yours in VLLM_ASCEND_BRINGUP_RECIPES",
        )
    return recipes[architecture].recipe


def _pieces(recipe: Recipe, name: str | None) -> tuple[tuple[Step, ...], tuple[str, ...]]:
    """What splitting and stacking make of a renamed key."""
    if name is None:
        return (), ()
    made, names = [], [name]
    for split in recipe.split:
        if split.substring in name:
            names = [name.replace(split.substring, into, 1) for into in split.into]
            made.append(Step(f"split {split.substring!r} by rows ({split.rows})", ", ".join(names)))
            break
    for stack in recipe.stack:
        if any(stack.substring in one for one in names):
            names = [one.replace(stack.substring, stack.to, 1) for one in names]
            made.append(Step(f"stack {stack.substring!r} as {stack.shard!r}", ", ".join(names)))
    return tuple(made), tuple(names)
