# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as they occur in practice that vLLM does not serve under their names.

Each has a twin of the same weights that stock vLLM serves, and a recipe a user would write.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from testkit import write_checkpoint
from twin_kit import random_weights

Tensors = dict[str, torch.Tensor]
VOCABULARY = 512
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
    "max_position_embeddings": 512, "tie_word_embeddings": False,
}  # fmt: skip


@dataclass(frozen=True)
class Renamed:
    """``kind``: the body. ``change``: tensors and config as the checkpoint in question has them.

    ``recipe``: under 15 lines, no Python.
    """

    kind: str
    change: Callable[[Tensors, dict[str, Any]], tuple[Tensors, dict[str, Any]]]
    recipe: str


def _with_prefix(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    return {re.sub(r"^model\.", "model.language_model.", n): t for n, t in tensors.items()}, config


_GPT_NAMES = (
    (r"^model\.layers\.", "transformer.h."), (r"^model\.embed_tokens\.", "transformer.wte."),
    (r"^model\.norm\.", "transformer.ln_f."), (r"\.self_attn\.", ".attn."),
    (r"\.input_layernorm\.", ".ln_1."), (r"\.post_attention_layernorm\.", ".ln_2."),
)  # fmt: skip


def _gpt_names(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    named = {}
    for name, tensor in tensors.items():
        for pattern, new in _GPT_NAMES:
            name = re.sub(pattern, new, name)
        named[name] = tensor
    return named, config


def _other_architecture(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    return tensors, {**config, "architectures": ["AcmeForCausalLM"]}


def _fused_by_group(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """InternLM2's ``wqkv``: for each KV head its query heads, the key and the value head."""
    fused: Tensors = {}
    D, G = config["head_dim"], config["num_key_value_heads"]
    for name, tensor in tensors.items():
        if ".q_proj." in name:
            heads = [tensors[name.replace(".q_proj.", f".{p}_proj.")] for p in "qkv"]
            parts = [head.view(G, -1, D, head.shape[1]) for head in heads]
            both = torch.cat(parts, 1).reshape(-1, tensor.shape[1])
            fused[name.replace(".q_proj.", ".wqkv.")] = both
        elif ".k_proj." not in name and ".v_proj." not in name:
            fused[name] = tensor
    return fused, config


def _short_names(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """Meta's names of what vLLM's Llama keeps in two fused parameters."""
    short = {"q_proj": "wq", "k_proj": "wk", "v_proj": "wv", "gate_proj": "w1", "up_proj": "w3"}
    return {
        re.sub(r"\b(q|k|v|gate|up)_proj\b", lambda match: short[match[0]], name): tensor
        for name, tensor in tensors.items()
    }, config


def _inside_a_vl_model(tensors: Tensors, config: dict[str, Any]) -> tuple[Tensors, dict[str, Any]]:
    """A LLaVA: its text model under ``language_model.``, a vision tower beside it."""
    whole = {f"language_model.{name}": tensor for name, tensor in tensors.items()}
    whole["vision_tower.vision_model.embeddings.class_embedding"] = torch.zeros(64)
    whole["multi_modal_projector.linear_1.weight"] = torch.zeros(128, 64)
    return whole, {
        "architectures": ["LlavaForConditionalGeneration"], "model_type": "llava",
        "text_config": config, "vision_config": {"model_type": "clip_vision_model"},
        "image_token_index": 500, "torch_dtype": "bfloat16",
    }  # fmt: skip


RENAMED = {
    "prefix": Renamed("qwen3", _with_prefix, """\
architecture = "Qwen3ForCausalLM"

[[rule]]
prefix = "model.language_model."
to = "model."
"""),
    "gpt-names": Renamed("llama", _gpt_names, r"""
architecture = "LlamaForCausalLM"
rule = [
  { prefix = "transformer.h.", to = "model.layers." },
  { prefix = "transformer.wte.", to = "model.embed_tokens." },
  { prefix = "transformer.ln_f.", to = "model.norm." },
  { substring = ".attn.", to = ".self_attn." },
  { substring = ".ln_1.", to = ".input_layernorm." },
  { substring = ".ln_2.", to = ".post_attention_layernorm." },
]
"""),
    "architecture": Renamed("qwen3", _other_architecture, """\
architecture = "AcmeForCausalLM"
serve_as = "Qwen3ForCausalLM"
"""),
    "fused": Renamed("llama", _fused_by_group, """\
architecture = "LlamaForCausalLM"

[[split]]
substring = ".wqkv."
into = [".q_proj.", ".k_proj.", ".v_proj."]
rows = "qkv_by_group"
"""),
    "stacked": Renamed("llama", _short_names, """\
architecture = "LlamaForCausalLM"
stack = [
  { substring = ".wq.", to = ".qkv_proj.", shard = "q" },
  { substring = ".wk.", to = ".qkv_proj.", shard = "k" },
  { substring = ".wv.", to = ".qkv_proj.", shard = "v" },
  { substring = ".w1.", to = ".gate_up_proj.", shard = 0 },
  { substring = ".w3.", to = ".gate_up_proj.", shard = 1 },
]
"""),
    "text-only": Renamed("llama", _inside_a_vl_model, """\
architecture = "LlavaForConditionalGeneration"
serve_as = "LlamaForCausalLM"
config_of = "text_config"
rule = [
  { prefix = "language_model.", to = "" },
  { prefix = "vision_tower.", drop = true },
  { prefix = "multi_modal_projector.", drop = true },
]
"""),
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A renamed checkpoint, its twin, and the recipe's file."""

    renamed: Path
    twin: Path
    recipe: Path


def write_pair(name: str, folder: Path) -> Pair:
    """Write both checkpoints and the recipe."""
    import transformers

    hf: Any = transformers
    case = RENAMED[name]
    config = {"qwen3": hf.Qwen3Config, "llama": hf.LlamaConfig}[case.kind](**_SIZES)
    tensors, settings = random_weights(config, folder / "made")
    plain = {key: tensor.to(torch.bfloat16) for key, tensor in tensors.items()}
    twin = write_checkpoint(folder / "twin", plain, settings)
    changed, changed_settings = case.change(plain, json.loads(json.dumps(settings)))
    renamed = write_checkpoint(folder / "renamed", changed, changed_settings)
    recipe = folder / "recipe.toml"
    recipe.write_text(case.recipe)
    return Pair(renamed, twin, recipe)
