# SPDX-License-Identifier: Apache-2.0
"""What a tensor-parallel size does to a model, from config.json alone.

When to use it: before weights are downloaded, or a machine is rented. What it cannot see: whether
the weights fit, remote code, and encoders for sound.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.hardware import MLA_GRAPH_HEADS
from vllm_ascend_bringup.head_topology import clean_sizes, misfit
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
    findings = [*_heads(model, tp), *_vision(model, tp, vllm)]
    if not any(finding.severity == BREAKS for finding in findings):
        findings += [*_shared(model, text_settings(config), tp, patches), *_graph(model, tp)]
    return tuple(sorted(findings, key=lambda finding: finding.severity != BREAKS))


def _heads(model: ModelFacts, tp: int) -> list[TpFinding]:
    if not model.query_heads:
        return []
    # MLA's latent is whole on every rank, so it has no KV heads to divide.
    kv_heads = model.query_heads if model.attention == "MLA" else model.kv_heads
    if why := misfit(model.query_heads, kv_heads, tp):
        return [TpFinding(BREAKS, why, _choose(clean_sizes(model.query_heads, kv_heads)))]
    if model.architecture in _NEED_ALL_KV_HEADS and kv_heads != model.query_heads:
        why = f"{model.architecture} has no meaning with fewer KV heads than query heads"
        return [TpFinding(BREAKS, why, "correct the numbers of heads in config.json")]
    return []


def _shared(model: ModelFacts, text: Mapping[str, Any], tp: int, setting: str) -> list[TpFinding]:
    if model.attention == "MLA" or not model.kv_heads or tp <= model.kv_heads:
        return []
    sizes = [size for size in clean_sizes(model.query_heads, model.kv_heads)
             if size <= model.kv_heads]  # fmt: skip
    why = (
        f"each of {model.kv_heads} KV heads is on {model.kv_replicas(tp)} ranks, so their cache "
        f"takes as much of a rank as at TP={model.kv_heads}"
    )
    findings = [TpFinding(COSTS, why, _choose(sizes) + " to have no copies")]
    for patch in PATCHES.values():
        applies = patch.setting is None or text.get(patch.setting)
        if model.architecture in patch.shared_kv_heads and applies:
            why = f"vLLM's own {patch.attribute} does not let ranks share KV heads"
            cure = _patched(patch, setting)
            if cure is not None:
                findings.append(TpFinding(BREAKS, why, f"{cure}, or {_choose(sizes)}"))
    return findings


def _patched(patch: Patch, setting: str) -> str | None:
    """What has to be done for the patch to stand in; None if nothing."""
    state = check(patch, installed_versions()).state
    if state not in (MATCHES, ABSENT):
        return f"patch {patch.name} does not fit this {patch.package} ({state})"
    if patch not in chosen(PATCHES, setting):
        return f"unset VLLM_ASCEND_BRINGUP_PATCHES, so that patch {patch.name} stands in"
    return None


def _vision(model: ModelFacts, tp: int, vllm: InstalledVllm) -> list[TpFinding]:
    if not model.vision_heads or not model.vision_heads % tp or model.architecture in _COPES:
        return []
    why = f"the {model.vision_heads} heads of its encoder for pictures do not divide by {tp}"
    supported = vllm.encoder_data_parallel(model.architecture)
    if supported:
        cure = "--mm-encoder-tp-mode data, which gives every rank a whole encoder"
        return [TpFinding(BREAKS, why, cure)]
    both = [size for size in clean_sizes(model.query_heads, model.kv_heads)
            if not model.vision_heads % size]  # fmt: skip
    cure = f"{_choose(both)}, or serve text only: --limit-mm-per-prompt '{{\"image\": 0}}'"
    if supported is None:
        cure = f"try --mm-encoder-tp-mode data; else {cure}"
    return [TpFinding(BREAKS, why, cure)]


def _graph(model: ModelFacts, tp: int) -> list[TpFinding]:
    heads = model.query_heads // tp
    if model.attention != "MLA" or heads in MLA_GRAPH_HEADS:
        return []
    fitting = [size for size in clean_sizes(model.query_heads, model.query_heads)
               if model.query_heads // size in MLA_GRAPH_HEADS]  # fmt: skip
    allowed = ", ".join(map(str, sorted(MLA_GRAPH_HEADS)))
    why = f"MLA has {heads} heads on a rank; in graph mode its operator takes {allowed}"
    return [TpFinding(COSTS, why, f"{_choose(fitting)}, or serve with --enforce-eager")]


def _choose(sizes: Iterable[int]) -> str:
    listed = " or ".join(map(str, list(sizes)[:8]))
    return f"choose TP={listed}" if listed else "no size does without"
