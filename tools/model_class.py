# SPDX-License-Identifier: Apache-2.0
"""Which class would serve a model, and what its remote code would fail on."""

from dataclasses import dataclass

from vllm_ascend_bringup.model_facts import ModelFacts
from vllm_ascend_bringup.recipes.recipe import Recipe
from vllm_ascend_bringup.tools.remote_code import RemoteCode
from vllm_ascend_bringup.tools.transformers_source import TransformersSource
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm


@dataclass(frozen=True)
class ModelClass:
    """``source``: "vLLM", "recipe", or vLLM's fallback with a class of "transformers" or "remote
    code"; "none".

    ``source`` is None if vLLM is not installed. ``supported_until``: the last vLLM that had a
    class of its own, if this one dropped it.
    """

    source: str | None
    supported_until: str | None


def find_model_class(
    model: ModelFacts,
    remote: RemoteCode,
    vllm: InstalledVllm,
    transformers: TransformersSource | None,
    recipe: Recipe | None = None,
) -> ModelClass:
    """In vLLM's order (vllm/model_executor/models/registry.py, _try_resolve_transformers)."""
    if vllm.version is None:
        return ModelClass(None, None)
    until = vllm.previously.get(model.architecture)
    if recipe is not None and recipe.serve_as is not None:
        return ModelClass("recipe", until)
    if model.architecture in vllm.architectures:
        return ModelClass("vLLM", None)
    if transformers and transformers.exports(model.architecture):
        return ModelClass("transformers", until)
    return ModelClass("remote code" if remote.has_model else "none", until)


def class_notes(
    model: ModelFacts, found: ModelClass, vllm: InstalledVllm, transformers: str | None
) -> list[str]:
    """What one should know if vLLM has no class of its own. ``transformers``: its version."""
    notes = []
    start = f"vLLM {vllm.version} has no class for {model.architecture}"
    if found.source in ("transformers", "remote code"):
        whose = f"transformers {transformers}"
        if found.source == "remote code":
            whose = "the checkpoint's auto_map, with --trust-remote-code"
        notes.append(
            f"{start}; it may fall back to its transformers backend with the class of {whose}, "
            "which decodes nothing it does not know"
        )
    elif found.source == "none":
        others = f"neither has transformers {transformers}, and" if transformers else "and"
        notes.append(f"{start}, {others} auto_map names no model class: only a plugin can serve it")
    if found.supported_until and found.source != "recipe":
        notes.append(
            f"vLLM had a class for {model.architecture} until {found.supported_until}: use that "
            "version, or bring a class as a plugin"
        )
    return notes


def code_notes(code: RemoteCode, found: ModelClass, transformers: str | None) -> list[str]:
    """What is wrong with remote code, one note per file or entry."""
    notes = [
        f"auto_map names code of another repository ({entry}): it is not in this checkpoint, and "
        "needs network or a copy in the cache"
        for entry in code.elsewhere
    ]
    notes += [f"remote code: {file} is missing; download it" for file in code.absent]
    notes += [
        f"remote code: {file} cannot be parsed ({reason})" for file, reason in code.broken.items()
    ]
    for file in dict.fromkeys(missing.file for missing in code.missing):
        lines = [
            f"{m.module}{'.' if m.name else ''}{m.name} (line {m.line})"
            for m in code.missing
            if m.file == file
        ]
        classes = code.files[file]
        unused = found.source in ("vLLM", "recipe") and all(
            name.startswith("AutoModel") for name in classes
        )
        notes.append(
            f"remote code: {file} imports what transformers {transformers} lacks: "
            f"{', '.join(lines)}; "
            + (
                "vLLM does not need the file, because it has a class for it"
                if unused
                else f"{', '.join(classes)} cannot be loaded; correct the import in a copy of the "
                "checkpoint, and do not change the transformers that vLLM was released with"
            )
        )
    return notes
