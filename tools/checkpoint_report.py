# SPDX-License-Identifier: Apache-2.0
"""``bringup inspect``: what a checkpoint is, and what will happen to it when vLLM serves it.

When to use it: first, before any server is started. It reads config, headers and the text of python
files only, so it takes a second on a terabyte.

What it cannot see: tensor values (a scale may hold NaN), whether vLLM's model class wants exactly
these tensor names, and what code behind ``auto_map`` does.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import Checkpoint, read_checkpoint
from vllm_ascend_bringup.checkpoint_files import other_pointers, tokenizer_files
from vllm_ascend_bringup.errors import BringupError, CheckpointError, RecipeError, SettingsError
from vllm_ascend_bringup.formats.families.base import LeftAlone
from vllm_ascend_bringup.formats.pairing import DecodePlan, decode_plan, refuse_low_precision
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes
from vllm_ascend_bringup.model_facts import ModelFacts, model_facts
from vllm_ascend_bringup.recipes.recipe import Recipe
from vllm_ascend_bringup.recipes.sources import find_recipes
from vllm_ascend_bringup.settings import Settings, read_settings
from vllm_ascend_bringup.tools.model_class import (
    ModelClass,
    class_notes,
    code_notes,
    find_model_class,
)
from vllm_ascend_bringup.tools.model_questions import ModelAnswers, answer_questions, head_notes
from vllm_ascend_bringup.tools.processors import Processors, read_processors
from vllm_ascend_bringup.tools.rank_weights import WeightBytes, weight_bytes
from vllm_ascend_bringup.tools.remote_code import RemoteCode, read_remote_code, settings_of
from vllm_ascend_bringup.tools.tp_scan import BREAKS, TpFinding, scan_tp
from vllm_ascend_bringup.tools.transformers_source import installed_transformers
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm, installed_vllm

SCHEMA_VERSION = 1
_TP_SIZES = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Problem:
    """What prevents serving (``error``), costs something (``warning``) or is good to know."""

    severity: str
    text: str
    exit_code: int = 0


@dataclass(frozen=True)
class TpSize:
    """One tensor-parallel size: heads and weight bytes of the fullest rank.

    ``findings``: empty if the size is a clean one.
    """

    tp: int
    query_heads: int
    kv_heads: int
    kv_replicas: int
    stored_bytes: int
    decoded_bytes: int
    findings: tuple[TpFinding, ...]


@dataclass(frozen=True)
class CheckpointReport:
    """Everything ``inspect`` prints. Byte counts are of tensor data."""

    path: str
    model: ModelFacts
    vllm_version: str | None
    known_to_vllm: bool | None
    transformers_version: str | None
    model_class: ModelClass
    recipe: str | None
    served_as: str | None
    answers: ModelAnswers
    remote_code: RemoteCode
    processors: Processors
    tokenizer_files: tuple[str, ...]
    quantization: str | None
    quantization_found_in: str | None
    action: str
    formats: Mapping[str, int]
    dtypes: Mapping[str, int]
    tensors: int
    shards: int
    stored_bytes: int
    decoded_bytes: int
    tp_sizes: tuple[TpSize, ...]
    problems: tuple[Problem, ...] = field(default=())

    @property
    def exit_code(self) -> int:
        """0, or the exit code of the first error."""
        return next((p.exit_code for p in self.problems if p.severity == "error"), 0)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``schema_version`` changes when a field changes meaning or goes."""
        return {"schema_version": SCHEMA_VERSION, "command": "inspect", **asdict(self)}


def report_checkpoint(path: str | Path, tp: int | None = None) -> CheckpointReport:
    """Gather and judge. ``tp``: a tensor-parallel size whose findings become problems.

    Raises CheckpointError if config, index or headers cannot be read.
    """
    settings = read_settings()
    checkpoint = read_checkpoint(path)
    folder = checkpoint.path
    vllm, transformers = installed_vllm(), installed_transformers()
    version = transformers.version if transformers else None
    recipe, config, misfit = recipe_in_force(checkpoint, settings, vllm)
    model = model_facts(config)
    # A recipe that changes the config takes the place of the code that came with it.
    replaced = recipe is not None and recipe.changes_config
    remote = RemoteCode() if replaced else read_remote_code(folder, transformers)
    model_class = find_model_class(model, remote, vllm, transformers, recipe)
    tokenizer = settings_of(folder / "tokenizer_config.json")
    answers = answer_questions(model, checkpoint.tensors, tokenizer, vllm, _TP_SIZES)
    notes = (
        *checkpoint.notes, *class_notes(model, model_class, vllm, version),
        *code_notes(remote, model_class, version), *head_notes(model, answers.lm_head),
    )  # fmt: skip
    problems = [Problem("note", note) for note in notes] + misfit
    sizes = sorted({*_TP_SIZES, tp or 1})
    about_tp = {size: scan_tp(config, size, vllm, settings.patches) for size in sizes}
    problems += [
        Problem(
            found.severity, f"TP={tp}: {found}",
            SettingsError.exit_code if found.severity == BREAKS else 0,
        )
        for found in (about_tp[tp] if tp else ())
    ]  # fmt: skip
    if pointers := other_pointers(folder):
        error = CheckpointError(
            f"{', '.join(pointers)}: Git LFS pointers, not the content", "the files themselves",
            f"run `git lfs pull` or download {', '.join(pointers)}",
        )  # fmt: skip
        problems.append(Problem("error", str(error), error.exit_code))
    plan, action = None, ""
    try:
        plan, action = _plan(checkpoint, settings)
    except BringupError as error:
        action = "refused: it would not load"
        problems.append(Problem("error", str(error), error.exit_code))
    pairings = plan.pairings if plan else {}
    source = checkpoint.quantization
    tensors = checkpoint.tensors.values()
    stored, decoded = weight_bytes(tensors, None), weight_bytes(tensors, plan)
    return CheckpointReport(
        path=str(checkpoint.path),
        model=model,
        vllm_version=vllm.version,
        known_to_vllm=model_class.source == "vLLM" if vllm.version else None,
        transformers_version=version,
        model_class=model_class,
        recipe=recipe.source if recipe else None,
        served_as=recipe.serve_as if recipe else None,
        answers=answers,
        remote_code=remote,
        processors=read_processors(folder, model.parts, transformers),
        tokenizer_files=tokenizer_files(folder),
        quantization=_family(source.settings) if source else None,
        quantization_found_in=source.where if source else None,
        action=action,
        formats=dict(Counter(pairing.format.title for pairing in pairings.values())),
        dtypes=dict(Counter(t.dtype for t in checkpoint.tensors.values()).most_common()),
        tensors=len(checkpoint.tensors),
        shards=len(checkpoint.shards),
        stored_bytes=checkpoint.nbytes,
        decoded_bytes=decoded.total,
        tp_sizes=tuple(
            _tp_size(model, stored, decoded, size, found)
            for size, found in about_tp.items()
            if model.misfit(size) is None
        ),
        problems=tuple(problems),
    )


def recipe_in_force(
    checkpoint: Checkpoint, settings: Settings, vllm: InstalledVllm
) -> tuple[Recipe | None, Mapping[str, Any], list[Problem]]:
    """The recipe in force, the config as it says, and what is wrong with the recipe."""
    config = checkpoint.config
    architecture = model_facts(config).architecture
    try:
        found = find_recipes(settings.recipes).get(architecture)
        if found is None or not found.in_force(architecture, vllm.architectures):
            return None, config, []
        changed = found.recipe.changed_config(config)
    except RecipeError as error:
        return None, config, [Problem("error", str(error), error.exit_code)]
    return found.recipe, {**changed, "architectures": config["architectures"]}, []


def _family(settings: Mapping[str, Any]) -> str:
    nested = settings.get("quantization")
    algorithm = settings.get("quant_algo")
    if isinstance(nested, dict):
        algorithm = nested.get("quant_algo", algorithm)
    method = settings.get("quant_method") or ("modelopt" if algorithm else "unnamed")
    return f"{method} {algorithm}" if algorithm else str(method)


def _plan(checkpoint: Checkpoint, settings: Settings) -> tuple[DecodePlan | None, str]:
    """The decode plan, if this plugin decodes the checkpoint, and what will happen in words."""
    if checkpoint.quantization is None:
        refuse_low_precision(checkpoint.tensors, "the config has no quantization settings")
        return None, "loaded as it is"
    table = checkpoint_schemes(checkpoint)
    if isinstance(table, LeftAlone):
        return None, f"left to vLLM: {table.reason}"
    plan = decode_plan(checkpoint.tensors, table)
    if settings.dequant == "never":
        return plan, "left to vLLM, because VLLM_ASCEND_BRINGUP_DEQUANT=never"
    return plan, "decoded while loading, each rank its own slice, to the dtype vLLM serves in"


def _tp_size(
    model: ModelFacts, stored: WeightBytes, decoded: WeightBytes, tp: int,
    findings: tuple[TpFinding, ...],
) -> TpSize:  # fmt: skip
    return TpSize(
        tp=tp,
        query_heads=model.query_heads // tp,
        kv_heads=max(1, model.kv_heads // tp),
        kv_replicas=model.kv_replicas(tp),
        stored_bytes=stored.on_rank(model, tp),
        decoded_bytes=decoded.on_rank(model, tp),
        findings=findings,
    )
