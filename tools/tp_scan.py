# SPDX-License-Identifier: Apache-2.0
"""What a tensor-parallel size does to a model, from config.json alone.

When to use it: before weights are downloaded, or a machine is rented. What it cannot see: whether
the weights fit, remote code, and encoders for sound.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.hardware import MLA_GRAPH_HEADS
from vllm_ascend_bringup.model_facts import ModelFacts, model_facts, text_settings
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import ABSENT, MATCHES, Patch, check, chosen, installed_versions
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm

BREAKS, COSTS = "error", "warning"
# Their encoders are whole on every rank where heads do not divide (intern_vit.py, interns1_vit.py,
# kimi_k25_vit.py and muse_glimmer.py of vLLM 0.32).
_COPES = frozenset({
    "H2OVLChatModel", "InternS1ForConditionalGeneration", "InternVLChatModel",
    "InternVLForConditionalGeneration", "KimiK25ForConditionalGeneration",
    "MuseGlimmerForConditionalGeneration", "NVLM_D", "SkyworkR1VChatModel",
})  # fmt: skip
# Their classes multiply V by a factor for each query head.
_NEED_ALL_KV_HEADS = frozenset({"HfMoondream", "Moondream3ForCausalLM"})


@dataclass(frozen=True)
class TpFinding:
    """``severity``: "error" if vLLM fails at this size, "warning" if it does with less than asked.

    ``cure``: another size, a patch of ours, or an option of vLLM.
    """

    severity: str
    why: str
    cure: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.why}; {self.cure}"


def scan_tp(
    config: Mapping[str, Any], tp: int, vllm: InstalledVllm, patches: str
) -> tuple[TpFinding, ...]:
    """What is to be said about one size, the gravest first.

    ``patches``: VLLM_ASCEND_BRINGUP_PATCHES. Raises CheckpointError if the config names no
    architecture, PatchError for an unknown patch.
    """
    model = model_facts(config)
    findings = [*_heads(model, tp), *_vision(model, tp, vllm), *_at_any_size(model, patches)]
    if not any(finding.severity == BREAKS for finding in findings):
        findings += [*_shared(model, text_settings(config), tp, patches), *_graph(model, tp)]
    return tuple(sorted(findings, key=lambda finding: finding.severity != BREAKS))


def _heads(model: ModelFacts, tp: int) -> list[TpFinding]:
    if not model.query_heads:
        return []
    if why := model.misfit(tp):
        return [TpFinding(BREAKS, why, _choose(model.clean_sizes()))]
    if model.architecture in _NEED_ALL_KV_HEADS and model.kv_heads != model.query_heads:
        why = f"{model.architecture} has no meaning with fewer KV heads than query heads"
        return [TpFinding(BREAKS, why, "correct the numbers of heads in config.json")]
    return []


def _vision(model: ModelFacts, tp: int, vllm: InstalledVllm) -> list[TpFinding]:
    if not model.vision_heads or not model.vision_heads % tp or model.architecture in _COPES:
        return []
    why = f"the {model.vision_heads} heads of its encoder for pictures do not divide by {tp}"
    supported = vllm.encoder_data_parallel(model.architecture)
    if supported:
        cure = "--mm-encoder-tp-mode data, which gives every rank a whole encoder"
        return [TpFinding(BREAKS, why, cure)]
    both = [size for size in model.clean_sizes() if not model.vision_heads % size]
    cure = f"{_choose(both)}, or serve text only: --limit-mm-per-prompt '{{\"image\": 0}}'"
    if supported is None:
        cure = f"try --mm-encoder-tp-mode data; else {cure}"
    return [TpFinding(BREAKS, why, cure)]


def _at_any_size(model: ModelFacts, setting: str) -> list[TpFinding]:
    findings = []
    for patch in PATCHES.values():
        if model.architecture in patch.wrong_without and _state(patch) != ABSENT:
            why = f"{patch.package}'s own {patch.attribute} answers wrongly, without an error"
            if cure := _lacking(patch, setting):
                findings.append(TpFinding(BREAKS, why, cure))
    return findings


def _shared(model: ModelFacts, text: Mapping[str, Any], tp: int, setting: str) -> list[TpFinding]:
    copies = model.kv_replicas(tp)
    if not model.kv_heads or copies == 1:
        return []
    sizes = [size for size in model.clean_sizes() if size <= model.kv_heads]
    why = (
        f"each of {model.kv_heads} KV heads is on {copies} ranks, so their cache takes as much of "
        f"a rank as at TP={model.kv_heads}"
    )
    findings = [TpFinding(COSTS, why, _choose(sizes) + " to have no copies")]
    for patch in PATCHES.values():
        applies = patch.setting is None or text.get(patch.setting)
        if model.architecture in patch.shared_kv_heads and applies:
            why = f"vLLM's own {patch.attribute} does not let ranks share KV heads"
            if cure := _lacking(patch, setting):
                findings.append(TpFinding(BREAKS, why, f"{cure}, or {_choose(sizes)}"))
    return findings


def _graph(model: ModelFacts, tp: int) -> list[TpFinding]:
    heads = model.query_heads // tp
    if model.attention != "MLA" or heads in MLA_GRAPH_HEADS:
        return []
    fitting = [size for size in model.clean_sizes() if model.query_heads // size in MLA_GRAPH_HEADS]
    allowed = ", ".join(map(str, sorted(MLA_GRAPH_HEADS)))
    why = f"MLA has {heads} heads on a rank; in graph mode its operator takes {allowed}"
    return [TpFinding(COSTS, why, f"{_choose(fitting)}, or serve with --enforce-eager")]


def _state(patch: Patch) -> str:
    return check(patch, installed_versions()).state


def _lacking(patch: Patch, setting: str) -> str | None:
    """What has to be done for the patch to stand in; None if it does."""
    if patch not in chosen(PATCHES, setting):
        return f"unset VLLM_ASCEND_BRINGUP_PATCHES, so that patch {patch.name} stands in"
    state = _state(patch)
    if state in (MATCHES, ABSENT):
        return None
    return f"patch {patch.name} does not fit this {patch.package} ({state})"


def _choose(sizes: Iterable[int]) -> str:
    listed = " or ".join(map(str, list(sizes)[:8]))
    return f"choose TP={listed}" if listed else "no size does without"
