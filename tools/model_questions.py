# SPDX-License-Identifier: Apache-2.0
"""What one asks first about a model that is to be brought up.

Answers come from config.json, tensor names and vLLM's source. What it cannot see: whether a
feature works on the chip, and how much memory is left for a context.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.hardware import MLA_GRAPH_HEADS
from vllm_ascend_bringup.model_facts import ModelFacts
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm

MTP_READY = "supported and present"
MTP_UNSUPPORTED = "present but unsupported"
MTP_LACKING = "config only: the checkpoint lacks them"
MTP_UNKNOWN = "present; there is no vLLM here to say whether it is supported"
NOT_APPLICABLE = "not applicable"

_MTP_NAME = re.compile(r"(^|\.)(mtp|nextn)\w*\.")
_LAYER = re.compile(r"(?:(?:model|language_model|llm|transformer|backbone)\.)*layers\.(\d+)\.(.*)")
# Submodules that only a layer for multi-token prediction has (vllm/.../models/deepseek_mtp.py).
_MTP_MODULE = re.compile(r"(eh_proj|enorm|hnorm|shared_head)\.")
_HEAD = re.compile(
    r"(?:(?:model|language_model|llm|transformer|thinker)\.)*"
    r"(?:lm_head|embed_out|output|output_layer|head)\.\w*weight"
)
# Types for which max_position_embeddings is the stretched length already (vllm/config/model.py,
# _get_and_verify_max_len; vLLM before 0.32 multiplied for some of them).
_STRETCHED = frozenset(
    {"su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling"}
)


@dataclass(frozen=True)
class Mtp:
    """Layers for multi-token prediction: ``layers`` by the config, ``tensors`` in the shards."""

    state: str
    layers: int
    tensors: int
    vllm_supports: bool | None


@dataclass(frozen=True)
class Context:
    """Lengths in tokens, 0 or None where nothing states one.

    ``config``: as config.json states it. ``tokenizer``: the limit of tokenizer_config.json.
    ``default``: what vLLM takes if it is not told one; memory may not suffice for it.
    """

    config: int
    tokenizer: int | None
    default: int


@dataclass(frozen=True)
class ModelAnswers:
    """``mla_graph_tp``: sizes at which MLA runs in graph mode; None if the model has no MLA.

    ``expert_parallelism``, ``flashcomm1`` (VLLM_ASCEND_ENABLE_FLASHCOMM1): whether they apply at
    all, which is for mixtures of experts only. ``lm_head``: whether a tensor of that role exists.
    """

    mtp: Mtp
    moe: bool
    expert_parallelism: bool
    flashcomm1: bool
    mla_graph_tp: tuple[int, ...] | None
    context: Context
    lm_head: bool


def answer_questions(
    model: ModelFacts,
    names: Collection[str],
    tokenizer: Mapping[str, Any],
    vllm: InstalledVllm,
    tp_sizes: Iterable[int],
) -> ModelAnswers:
    """``names``: of all tensors. ``tokenizer``: the content of tokenizer_config.json."""
    moe = model.experts > 0
    heads = {tp: model.query_heads // tp for tp in tp_sizes if not model.query_heads % tp}
    # MLA keeps one latent, so one KV head, on every rank.
    clean = tuple(tp for tp, count in heads.items() if count in MLA_GRAPH_HEADS)
    return ModelAnswers(
        mtp=_mtp(model, sum(is_of_mtp(name, model) for name in names), vllm),
        moe=moe,
        expert_parallelism=moe,
        flashcomm1=moe,
        mla_graph_tp=clean if model.attention == "MLA" else None,
        context=_context(model, tokenizer),
        lm_head=any(map(_HEAD.fullmatch, names)),
    )


def head_notes(model: ModelFacts, lm_head: bool) -> list[str]:
    """What contradicts itself about tied embeddings."""
    if model.tied and lm_head:
        return [
            "config.json ties the embeddings, but the checkpoint has an lm_head: most of vLLM's "
            "classes ignore it then; if it differs from the embeddings, set tie_word_embeddings "
            "to false"
        ]
    generates = re.search("ForCausalLM|ForConditionalGeneration|LMHead", model.architecture)
    if model.tied is False and not lm_head and generates:
        return [
            "config.json does not tie the embeddings, but the checkpoint has no lm_head: set "
            "tie_word_embeddings to true if they are shared, else download the missing shard"
        ]
    return []


def _mtp(model: ModelFacts, tensors: int, vllm: InstalledVllm) -> Mtp:
    supports = vllm.has_mtp(model.architecture, model.model_type)
    if tensors:
        state = {True: MTP_READY, False: MTP_UNSUPPORTED, None: MTP_UNKNOWN}[supports]
    else:
        state = MTP_LACKING if model.mtp_layers else NOT_APPLICABLE
    return Mtp(state, model.mtp_layers, tensors, supports)


def is_of_mtp(name: str, model: ModelFacts) -> bool:
    """By a module called mtp or nextn, or by a layer number past the last."""
    if ("mtp" in name or "nextn" in name) and _MTP_NAME.search(name):
        return True
    layer = _LAYER.match(name)
    if not layer or not model.layers or int(layer[1]) < model.layers:
        return False
    # More layers than the config states may also mean that somebody shortened the config.
    return model.mtp_layers > 0 or bool(_MTP_MODULE.match(layer[2]))


def _context(model: ModelFacts, tokenizer: Mapping[str, Any]) -> Context:
    limit: Any = tokenizer.get("model_max_length")
    # transformers writes 1e30 for "none".
    limit = int(limit) if type(limit) in (int, float) and 0 < limit < 1e15 else None
    length = min(model.max_length, limit) if limit and model.max_length else model.max_length
    rope = model.rope
    if rope and rope.type == "longrope":
        length = rope.original_length or length
    elif rope and rope.factor and rope.type not in _STRETCHED and "gemma3" not in model.model_type:
        length = int(length * rope.factor)
    return Context(model.max_length, limit, length)
