# SPDX-License-Identifier: Apache-2.0
"""``bringup audit --suggest``: draft a recipe that makes a checkpoint fit, and try it.

What it cannot see: everything the audit cannot see; above all, rules that make names and shapes
fit may still be the wrong rules where two tensors of one layer have the same shape.
"""

import difflib
import json
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import Checkpoint, read_checkpoint
from vllm_ascend_bringup.errors import BringupError, LoadError, RecipeError
from vllm_ascend_bringup.recipes.recipe import Recipe
from vllm_ascend_bringup.recipes.rules import Rule
from vllm_ascend_bringup.recipes.sources import find_recipes
from vllm_ascend_bringup.recipes.suggest import suggest_rules
from vllm_ascend_bringup.settings import read_settings
from vllm_ascend_bringup.tools.audit import probe
from vllm_ascend_bringup.tools.audit.report import SCHEMA_VERSION, AuditReport, judge, leftovers
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm

# What only these bodies have together, the more particular first; others are Llama-shaped.
_BODIES = (
    ({"kv_a_proj_with_mqa", "e_score_correction_bias"}, "DeepseekV3ForCausalLM"),
    ({"kv_a_proj_with_mqa"}, "DeepseekV2ForCausalLM"),
    ({"pre_feedforward_layernorm", "q_norm"}, "Gemma3ForCausalLM"),
    ({"pre_feedforward_layernorm"}, "Gemma2ForCausalLM"),
    ({"shared_expert_gate"}, "Qwen2MoeForCausalLM"),
    ({"experts", "q_norm"}, "Qwen3MoeForCausalLM"),
    ({"block_sparse_moe"}, "MixtralForCausalLM"),
    ({"q_norm"}, "Qwen3ForCausalLM"),
)


@dataclass(frozen=True)
class Draft:
    """A recipe as text, and the audit with it. ``before``: leftovers without its rules."""

    recipe: str
    file: str | None
    before: int
    report: AuditReport

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "schema_version": SCHEMA_VERSION, "command": "audit --suggest", "recipe": self.recipe,
            "file": self.file, "leftovers_before": self.before, "audit": self.report.to_json(),
        }  # fmt: skip


def suggest(path: str | Path, output: Path | None = None) -> Draft:
    """Draft a recipe for the checkpoint at TP=1 and audit with it; write it to ``output``.

    Raises RecipeError if a recipe with rules is in force or ``output`` exists, and LoadError if
    no class can be found.
    """
    if output is not None and output.exists():
        raise RecipeError(
            f"{output} exists", "a new file", "choose another name, or remove it first"
        )
    checkpoint = read_checkpoint(path)
    architecture = str(checkpoint.config["architectures"][0])
    recipe = _in_force(architecture)
    if recipe is not None and recipe.rule:
        raise RecipeError(
            f"recipe {recipe.source} renames {architecture} already",
            "no rules in force while new ones are looked for",
            "correct that recipe by what `bringup audit` says, or start from one without rules: "
            "VLLM_ASCEND_BRINGUP_RECIPES=FILE",
        )
    with tempfile.TemporaryDirectory(prefix="suggest-") as folder:
        file = Path(folder, "draft.toml")
        header, found = _served(checkpoint, architecture, recipe, file)
        left = leftovers(found, 1)
        suggestion = suggest_rules(left.unexpected, left.missing, left.taken)
        text = header + "".join(_rule_text(rule) for rule in suggestion.rules)
        file.write_text(text)
        report = replace(judge(checkpoint, 1, probe(checkpoint, 1, file)), recipe="this draft")
    if output is not None:
        output.write_text(text)
    before = len(left.unexpected) + len(left.missing) + len(left.conflicts)
    return Draft(text, str(output) if output else None, before, report)


def _in_force(architecture: str) -> Recipe | None:
    found = find_recipes(read_settings().recipes).get(architecture)
    return found.recipe if found else None


def _served(
    checkpoint: Checkpoint, architecture: str, recipe: Recipe | None, file: Path
) -> tuple[str, dict[str, Any]]:
    """The first lines of the draft, with the class that fits best, and what the probe finds."""
    if recipe is not None or architecture in installed_vllm().architectures:
        serve_as = recipe.serve_as if recipe else None
        tables = _config_text(recipe) if recipe else ""
        header = _header(architecture, serve_as) + tables
        file.write_text(header)
        return header, probe(checkpoint, 1, file)
    best: tuple[int, str, dict[str, Any]] | None = None
    refusal: BringupError | None = None
    for serve_as, model_type in _candidates(checkpoint, architecture):
        header = _header(architecture, serve_as)
        if model_type is not None:
            was = json.dumps(checkpoint.config.get("model_type"))
            header += (
                f"\n[config]\nmodel_type = {{ was = {was}, now = {json.dumps(model_type)} }}\n"
            )
        file.write_text(header)
        try:
            found = probe(checkpoint, 1, file)
        except BringupError as error:
            refusal = refusal or error
            continue
        left = leftovers(found, 1)
        # Names can be mended; a class with other shapes is another architecture.
        explained = suggest_rules(left.unexpected, left.missing, left.taken).matched
        misfit = len(left.unexpected) + len(left.missing) - 2 * len(explained) + len(left.conflicts)
        if best is None or misfit < best[0]:
            best = (misfit, header, found)
        if misfit == 0:
            break
    if best is None:
        raise refusal or LoadError(
            f"vLLM has no class {architecture}, and none for its model_type",
            "an architecture whose model_type, or parts, resemble one that vLLM has",
            "write a recipe with serve_as",
        )
    return best[1:]


def _candidates(checkpoint: Checkpoint, architecture: str) -> Iterator[tuple[str, str | None]]:
    """Classes that may serve it, each with the model_type to pretend, if another one."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names: Mapping[str, str] = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    known = installed_vllm().architectures
    given = str(checkpoint.config.get("model_type"))
    by_class = {name: model_type for model_type, name in names.items() if name in known}
    likely = [names.get(given), _body(checkpoint)]
    likely += difflib.get_close_matches(architecture, by_class, 1, cutoff=0.8)
    for serve_as in dict.fromkeys(likely):
        if serve_as in by_class:
            yield serve_as, None if names.get(given) else by_class[serve_as]


def _body(checkpoint: Checkpoint) -> str:
    """The class whose parts these tensors have, by the names of modules."""
    parts = {part for name in checkpoint.tensors for part in name.split(".")}
    biased = any(re.search(r"q\w*\.bias$", name) for name in checkpoint.tensors)
    for marks, serve_as in _BODIES:
        if marks <= parts:
            return serve_as
    return "Qwen2ForCausalLM" if biased else "LlamaForCausalLM"


def _header(architecture: str, serve_as: str | None) -> str:
    lines = [f"architecture = {json.dumps(architecture)}"]
    if serve_as is not None:
        lines.append(f"serve_as = {json.dumps(serve_as)}")
    return "\n".join(lines) + "\n"


def _config_text(recipe: Recipe) -> str:
    """The overrides of a recipe that has no rules, to keep them in the draft."""
    lines = []
    for key, override in recipe.config.items():
        given = override.model_dump(mode="json", exclude_unset=True)
        values = ", ".join(f"{name} = {json.dumps(value)}" for name, value in given.items())
        lines.append(f"{key} = {{ {values} }}")
    return "\n[config]\n" + "\n".join(lines) + "\n" if lines else ""


def _rule_text(rule: Rule) -> str:
    change = "drop = true" if rule.drop else f"to = {json.dumps(rule.to)}"
    return f"\n[[rule]]\n{rule.kind} = {json.dumps(rule.text)}\n{change}\n"
