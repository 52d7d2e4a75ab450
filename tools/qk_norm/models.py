# SPDX-License-Identifier: Apache-2.0
"""Tiny models in which ranks can share KV heads, and the model of transformers that each equals.

Where transformers lacks an architecture, one of its others computes the same function, and its
weights are renamed to what the architecture's checkpoints call them.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import load_file, save_file

from vllm_ascend_bringup.tools.conformance.twins import write_twins

hf: Any = transformers

VOCABULARY = 512
_HIDDEN, _INNER, _LAYERS, _HEADS, _HEAD = 256, 256, 2, 8, 32
_EXPERTS = 4
_COMMON = {
    "vocab_size": VOCABULARY, "hidden_size": _HIDDEN, "intermediate_size": _INNER,
    "num_hidden_layers": _LAYERS, "num_attention_heads": _HEADS, "max_position_embeddings": 256,
    "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip
# All experts for every token: rounding cannot flip a choice.
_MIXTURE = {"num_experts_per_tok": _EXPERTS}
_OWN_CONFIG = '''"""A config that transformers lacks, with whatever config.json says."""
from transformers import PreTrainedConfig


class TinyConfig(PreTrainedConfig):
    def __init__(self, **settings):
        for name, value in settings.items():
            if name.endswith("_config") and isinstance(value, dict):
                settings[name] = PreTrainedConfig(**value)
        super().__init__(**settings)
'''
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class TinyModel:
    """``reference``: KV heads to a config of transformers.

    ``rewrite``: transformers' tensors and config.json to those of this architecture; None if they
    are the same. ``engine``: arguments of ``vllm.LLM``. ``more``: whether to try it over four ranks
    and in fp8 too.
    """

    architecture: str
    reference: Callable[[int], Any]
    rewrite: Callable[[Tensors, Mapping[str, Any]], tuple[Tensors, Mapping[str, Any]]] | None = None
    engine: Mapping[str, Any] = field(default_factory=dict)
    more: bool = False


@dataclass(frozen=True)
class Checkpoint:
    """One of random weights that are bf16 numbers. ``fp8``: the same as block fp8, if asked for."""

    folder: Path
    fp8: Path | None
    reference: Any


def write(model: TinyModel, kv_heads: int, folder: Path) -> Checkpoint:
    """Write a checkpoint of two layers, eight query heads and so many KV heads."""
    torch.manual_seed(0)
    made = hf.AutoModelForCausalLM.from_config(model.reference(kv_heads)).float().eval()
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            # Norms far from one, and attention that depends on the position.
            parameter += (0.3 if "norm" in name else 0.05) * torch.randn_like(parameter)
            parameter.copy_(parameter.bfloat16())
    if model.more:
        twins = write_twins(folder, made)
        made = hf.AutoModelForCausalLM.from_pretrained(twins.dense, dtype=torch.float32).eval()
        return Checkpoint(twins.dense, twins.fp8, made)
    made.save_pretrained(folder)
    if model.rewrite:
        _rewrite(model, folder)
    return Checkpoint(folder, None, made)


def _rewrite(model: TinyModel, folder: Path) -> None:
    assert model.rewrite
    file, config = folder / "model.safetensors", folder / "config.json"
    tensors, settings = model.rewrite(load_file(file), json.loads(config.read_text()))
    save_file({n: t.contiguous() for n, t in tensors.items()}, file, {"format": "pt"})
    named = {
        "architectures": [model.architecture],
        "auto_map": {"AutoConfig": "configuration.TinyConfig"},
    }  # fmt: skip
    config.write_text(json.dumps({**settings, **named}))
    (folder / "configuration.py").write_text(_OWN_CONFIG)


def _renamed(tensors: Tensors, rules: Iterable[tuple[str, str]]) -> dict[str, torch.Tensor]:
    renamed = {}
    for name, tensor in tensors.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    return renamed


def _joined(
    tensors: Tensors, parts: Iterable[str], whole: str, join: Callable[..., torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Replace the weights called ``parts`` of each layer by one called ``whole``."""
    joined = dict(tensors)
    first, *others = parts
    for name in [name for name in tensors if f".{first}." in name]:
        pieces = [joined.pop(name.replace(first, part)) for part in (first, *others)]
        joined[name.replace(first, whole)] = join(*pieces)
    return joined


def _stacked(*pieces: torch.Tensor) -> torch.Tensor:
    return torch.cat(pieces)


def _interleaved(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """InternLM2's order: for each KV head its query heads, then K, then V."""
    kv_heads = len(k) // _HEAD
    parts = [part.view(kv_heads, -1, _HEAD, _HIDDEN) for part in (q, k, v)]
    return torch.cat(parts, dim=1).reshape(-1, _HIDDEN)


def _internlm2(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, Mapping[str, Any]]:
    tensors = _joined(tensors, ("q_proj", "k_proj", "v_proj"), "wqkv", _interleaved)
    rules = (
        ("self_attn.o_proj", "attention.wo"), ("self_attn", "attention"), ("lm_head", "output"),
        ("embed_tokens", "tok_embeddings"), ("post_attention_layernorm", "ffn_norm"),
        ("input_layernorm", "attention_norm"), ("mlp.gate_proj", "feed_forward.w1"),
        ("mlp.up_proj", "feed_forward.w3"), ("mlp.down_proj", "feed_forward.w2"),
    )  # fmt: skip
    return _renamed(tensors, rules), {**config, "model_type": "internlm2", "bias": False}


def _param2moe(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, Mapping[str, Any]]:
    tensors = _joined(tensors, ("q_proj", "k_proj", "v_proj"), "query_key_value", _stacked)
    rules = (
        ("self_attn.o_proj", "attention.dense"), ("self_attn.q_norm", "attention.query_layernorm"),
        ("self_attn.k_norm", "attention.key_layernorm"), ("self_attn", "attention"),
        ("embed_tokens", "word_embeddings"),
        ("gate.e_score_correction_bias", "gate.expert_bias"),
    )  # fmt: skip
    return _renamed(tensors, rules), {
        **config, "model_type": "param2moe", "rope_theta": 10000.0, "rope_scaling": None,
        "num_experts": _EXPERTS, "num_shared_experts": 1, "score_function": "sigmoid",
        "partial_rotary_factor": 1.0, "head_dim": _HEAD,
    }  # fmt: skip


_MOLMO_RULES = (
    (r"^model\.layers", "model.transformer.blocks"), ("^model.norm", "model.transformer.ln_f"),
    ("post_attention_layernorm", "attn_norm"),
    ("post_feedforward_layernorm", "ff_norm"), ("o_proj", "attn_out"), ("down_proj", "ff_out"),
)  # fmt: skip


def _molmo_tensors(tensors: Tensors, added: int) -> dict[str, torch.Tensor]:
    """What both Molmos call their text weights. ``added``: embeddings beyond the vocabulary."""
    tensors = _joined(tensors, ("q_proj", "k_proj", "v_proj"), "att_proj", _stacked)
    tensors = _joined(tensors, ("up_proj", "gate_proj"), "ff_proj", _stacked)
    named = _renamed(tensors, _MOLMO_RULES)
    embedding = "model.transformer.wte."
    named[embedding + "embedding"] = named.pop("model.embed_tokens.weight")
    named[embedding + "new_embedding"] = torch.zeros(added, _HIDDEN)
    return named


def _molmo(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, Mapping[str, Any]]:
    named = _renamed(_molmo_tensors(tensors, 128), [(r"self_attn\.|mlp\.", "")])
    named["model.transformer.ff_out.weight"] = named.pop("lm_head.weight")
    return named, {
        **config, "model_type": "molmo", "intermediate_size": 2 * _INNER, "qkv_bias": False,
        "attention_layer_norm": True, "layer_norm_type": "rms", "norm_after": True,
        "layer_norm_eps": config["rms_norm_eps"], "embedding_size": VOCABULARY,
        "weight_tying": False,
    }  # fmt: skip


def _molmo2(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, Mapping[str, Any]]:
    text = {
        **config, "head_dim": _HEAD, "additional_vocab_size": 128, "qkv_bias": False,
        "rope_theta": 10000.0, "use_qk_norm": True, "qk_norm_type": "olmo", "norm_after": True,
        "layer_norm_eps": config["rms_norm_eps"], "rope_scaling_layers": None,
        "rope_scaling": None,
    }  # fmt: skip
    small = {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 8, "hidden_size": 16}
    vision = {
        **small, "intermediate_size": 16, "num_hidden_layers": 1, "layer_norm_eps": 1e-6,
        "hidden_act": "silu", "image_default_input_size": [28, 28], "image_patch_size": 14,
        "image_num_pos": 5,
    }  # fmt: skip
    adapter = {
        **small, "vit_layers": [-1, -1], "pooling_attention_mask": False, "hidden_act": "silu",
        "intermediate_size": 16, "text_hidden_size": _HIDDEN,
    }  # fmt: skip
    return _molmo_tensors(tensors, 128), {
        "model_type": "molmo2", "text_config": text, "vit_config": vision, "dtype": "float32",
        "adapter_config": adapter, "image_patch_id": 1, "tie_word_embeddings": False,
    }  # fmt: skip


def _olmo_hybrid(tensors: Tensors, config: Mapping[str, Any]) -> tuple[Tensors, Mapping[str, Any]]:
    # Attention alone: vLLM has no linear attention of this model on CPU.
    return tensors, {
        **config, "model_type": "olmo_hybrid", "layer_types": ["full_attention"] * _LAYERS,
        "linear_num_key_heads": _HEADS, "linear_num_value_heads": _HEADS,
        "linear_key_head_dim": _HEAD, "linear_value_head_dim": _HEAD, "linear_conv_kernel_dim": 4,
    }  # fmt: skip


_OWN = {"trust_remote_code": True}
_TEXT_ONLY = {**_OWN, "limit_mm_per_prompt": {"image": 0, "video": 0}}
MODELS = {
    model.architecture: model
    for model in (
        TinyModel(
            "OlmoeForCausalLM",
            lambda kv: hf.OlmoeConfig(
                **_COMMON, **_MIXTURE, num_key_value_heads=kv, num_experts=_EXPERTS
            ),
            more=True,
        ),
        TinyModel(
            "OlmoHybridForCausalLM",
            lambda kv: hf.Olmo2Config(**_COMMON, num_key_value_heads=kv), _olmo_hybrid, _OWN,
        ),
        TinyModel(
            "Olmo2ForCausalLM",
            lambda kv: hf.Olmo2Config(**_COMMON, num_key_value_heads=kv), more=True,
        ),
        TinyModel(
            "MolmoForCausalLM",
            lambda kv: hf.Olmo2Config(**_COMMON, num_key_value_heads=kv),
            _molmo, {**_OWN, "limit_mm_per_prompt": {"image": 0}},
        ),
        TinyModel(
            "Molmo2ForConditionalGeneration",
            lambda kv: hf.Olmo2Config(**_COMMON, num_key_value_heads=kv), _molmo2, _TEXT_ONLY,
        ),
        TinyModel(
            "CohereForCausalLM",
            lambda kv: hf.CohereConfig(
                **{**_COMMON, "tie_word_embeddings": True}, num_key_value_heads=kv,
                use_qk_norm=True, logit_scale=1.0,
            ),
            more=True,
        ),
        TinyModel(
            "GptOssForCausalLM",
            lambda kv: hf.GptOssConfig(
                **_COMMON, **_MIXTURE, num_key_value_heads=kv, head_dim=_HEAD,
                num_local_experts=_EXPERTS,
            ),
        ),
        TinyModel(
            "InternLM2ForCausalLM",
            lambda kv: hf.LlamaConfig(**_COMMON, num_key_value_heads=kv), _internlm2, _OWN,
        ),
        TinyModel(
            "Param2MoEForCausalLM",
            lambda kv: hf.Glm4MoeConfig(
                **_COMMON, **_MIXTURE, num_key_value_heads=kv, head_dim=_HEAD, use_qk_norm=True,
                n_routed_experts=_EXPERTS, n_shared_experts=1, moe_intermediate_size=128,
                first_k_dense_replace=1, n_group=1, topk_group=1, partial_rotary_factor=1.0,
            ),
            _param2moe, _OWN,
        ),
        TinyModel(
            "MiniMaxM2ForCausalLM",
            lambda kv: hf.MiniMaxM2Config(
                **_COMMON, **_MIXTURE, num_key_value_heads=kv, head_dim=_HEAD,
                rotary_dim=_HEAD // 2, num_local_experts=_EXPERTS, scoring_func="sigmoid",
                use_routing_bias=True,
            ),
            more=True,
        ),
    )
}  # fmt: skip
