# SPDX-License-Identifier: Apache-2.0
"""Recipes inside vLLM: architectures registered, configs changed, the weight stream renamed.

Imported by ``plugin.register`` and the loader only, since it imports vLLM.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import torch
import vllm
from packaging.version import Version
from transformers import PretrainedConfig
from vllm.logger import init_logger
from vllm.model_executor.models.registry import ModelRegistry
from vllm.model_executor.models.utils import WeightsMapper
from vllm.transformers_utils.config import HFConfigParser

from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.recipes.recipe import Recipe, Split
from vllm_ascend_bringup.recipes.rules import claim, idle_rules, rename
from vllm_ascend_bringup.recipes.sources import FoundRecipe, find_recipes
from vllm_ascend_bringup.settings import read_settings

_LOGGER = init_logger("vllm.ascend_bringup.recipes")


@cache
def active_recipes() -> Mapping[str, FoundRecipe]:
    """Architecture -> the recipe in force with this vLLM."""
    native = _native_architectures()
    return {
        architecture: found
        for architecture, found in find_recipes(read_settings().recipes).items()
        if found.in_force(architecture, native)
    }


@cache
def _native_architectures() -> frozenset[str]:
    return frozenset(ModelRegistry.get_supported_archs())


def register_recipes() -> int:
    """Register the architectures that recipes serve; returns how many."""
    _native_architectures()  # before anything is added
    for architecture, found in active_recipes().items():
        recipe = found.recipe
        for other in found.replaces:
            _LOGGER.info("recipe %s is used for %s, not %s", recipe.source, architecture, other)
        _refuse_old_vllm(recipe)
        if recipe.serve_as is not None:
            ModelRegistry.register_model(architecture, _class_path(recipe, recipe.serve_as))
        elif architecture not in _native_architectures():
            raise RecipeError(
                f"recipe {recipe.source}: vLLM {vllm.__version__} has no class {architecture}",
                "serve_as, with module:Class or an architecture that vLLM has",
                "add serve_as to the recipe",
            )
    return len(active_recipes())


def _refuse_old_vllm(recipe: Recipe) -> None:
    if recipe.min_vllm and Version(vllm.__version__) < Version(recipe.min_vllm):
        raise RecipeError(
            f"recipe {recipe.source} with vLLM {vllm.__version__}",
            f"vLLM {recipe.min_vllm} or later, as the recipe says",
            "install a later vLLM, or take the recipe away",
        )


def _class_path(recipe: Recipe, target: str) -> str:
    """``module:Class`` of the serving class. Raises RecipeError if vLLM does not know it."""
    if ":" in target:
        return target
    known = ModelRegistry.models.get(target)
    if known is None or target not in _native_architectures():
        raise RecipeError(
            f"recipe {recipe.source}: vLLM {vllm.__version__} has no class {target}",
            "module:Class, or an architecture that this vLLM has",
            "correct serve_as",
        )
    return f"{known.module_name}:{known.class_name}"


def recipe_of(hf_config: Any) -> Recipe | None:
    """The recipe in force for a model's config."""
    architectures = getattr(hf_config, "architectures", None) or [""]
    found = active_recipes().get(architectures[0])
    return found.recipe if found else None


class BringupConfigParser(HFConfigParser):
    """vLLM's parser, with the overrides of a recipe applied to ``config.json`` before it."""

    def parse(
        self,
        model: str | Path,
        trust_remote_code: bool,
        revision: str | None = None,
        code_revision: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], PretrainedConfig]:
        """Read the config, as vLLM does. Raises RecipeError if an override does not fit."""
        content, _ = PretrainedConfig.get_config_dict(model, revision=revision)
        found = active_recipes().get((content.get("architectures") or [""])[0])
        if found is None or not found.recipe.changes_config:
            parsed = super().parse(model, trust_remote_code, revision, code_revision, **kwargs)
            return parsed[0], parsed[1]
        changed = found.recipe.changed_config(content)
        # Code that the checkpoint brings describes the model as it was.
        changed.pop("auto_map", None)
        changed["architectures"] = content["architectures"]
        _LOGGER.info("recipe %s changes the config", found.recipe.source)
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "config.json").write_text(json.dumps(changed), encoding="utf-8")
            content, config = super().parse(folder, False, **kwargs)
        config._name_or_path = str(model)
        return content, config


def renamed(
    weights: Iterator[tuple[str, Any]], recipe: Recipe, hf_config: Any
) -> Iterator[tuple[str, Any]]:
    """The stream as vLLM's class wants it: renamed or dropped, split, marked with shard ids.

    Raises RecipeError if two tensors get one name; at the end, warns of rules that did nothing.
    """
    by_rule = WeightsMapper(orig_to_new_regex={r.pattern: r.replacement for r in recipe.rule})
    stacked = WeightsMapper(
        orig_to_new_stacked={s.substring: (s.to, s.shard) for s in recipe.stack}
    )
    keys: list[str] = []
    taken: dict[str, str] = {}

    def pieces() -> Iterator[tuple[str, Any]]:
        for name, tensor in by_rule.apply(_noted(weights, keys)):
            for new, piece in _split(name, tensor, recipe, hf_config):
                claim(new, keys[-1], taken, recipe.source)
                yield new, piece

    yield from stacked.apply(pieces()) if recipe.stack else pieces()
    for warning in idle_rules(recipe.rule, keys):
        _LOGGER.warning("recipe %s: %s", recipe.source, warning)


def _noted(weights: Iterator[tuple[str, Any]], keys: list[str]) -> Iterator[tuple[str, Any]]:
    for name, tensor in weights:
        keys.append(name)
        yield name, tensor


def final_names(recipe: Recipe, key: str) -> list[str]:
    """What becomes of ``key``: no name if it is dropped, several if it is split.

    Names of pieces that are stacked are those of their parameter.
    """
    name = rename(recipe.rule, key)
    if name is None:
        return []
    names = [name]
    for split in recipe.split:
        if split.substring in name:
            names = [name.replace(split.substring, into, 1) for into in split.into]
            break
    for stack in recipe.stack:
        names = [name.replace(stack.substring, stack.to, 1) for name in names]
    return names


def _split(
    name: str, tensor: torch.Tensor, recipe: Recipe, hf_config: Any
) -> Iterator[tuple[str, torch.Tensor]]:
    split = next((split for split in recipe.split if split.substring in name), None)
    if split is None:
        yield name, tensor
        return
    for into, piece in zip(split.into, _pieces(name, tensor, split, hf_config), strict=True):
        yield name.replace(split.substring, into, 1), piece


def _pieces(name: str, tensor: torch.Tensor, split: Split, hf_config: Any) -> list[torch.Tensor]:
    rows = tensor.shape[0]
    if split.rows == "equal":
        count = len(split.into)
        sizes = [rows // count] * count
        groups = 1
    else:
        text = hf_config.get_text_config()
        query = text.num_attention_heads
        kv = getattr(text, "num_key_value_heads", None) or query
        head, left_over = divmod(rows, query + 2 * kv)
        sizes = [0] if left_over else [query * head, kv * head, kv * head]
        groups = kv if split.rows == "qkv_by_group" else 1
    if sum(sizes) != rows or any(size % groups for size in sizes):
        raise RecipeError(
            f"{name} has {rows} rows, which rows = {split.rows!r} of its recipe does not divide",
            f"rows for {', '.join(split.into)}",
            "correct the recipe",
        )
    if groups == 1:
        return list(tensor.split(sizes))
    grouped = tensor.view(groups, rows // groups, *tensor.shape[1:])
    parts = grouped.split([size // groups for size in sizes], dim=1)
    return [part.reshape(-1, *tensor.shape[1:]) for part in parts]
