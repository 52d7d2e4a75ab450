# SPDX-License-Identifier: Apache-2.0
"""Public models as plans see them: their configs, and shards that are headers with holes behind.

The numbers are those of the published config.json files.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sparse_checkpoint import make_header, write_shard

Shape = tuple[int, ...]

_QWEN3 = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "torch_dtype": "bfloat16",
    "vocab_size": 151936, "max_position_embeddings": 40960, "num_key_value_heads": 8,
    "head_dim": 128, "tie_word_embeddings": False, "use_sliding_window": False,
    "sliding_window": None, "rms_norm_eps": 1e-6, "rope_theta": 1000000, "hidden_act": "silu",
    "attention_bias": False,
}  # fmt: skip
_QWEN3_MOE = {
    **_QWEN3, "architectures": ["Qwen3MoeForCausalLM"], "model_type": "qwen3_moe",
    "num_key_value_heads": 4, "num_experts": 128, "num_experts_per_tok": 8,
    "decoder_sparse_step": 1, "mlp_only_layers": [], "norm_topk_prob": True,
}  # fmt: skip
_DEEPSEEK = {
    "torch_dtype": "bfloat16", "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 128,
    "v_head_dim": 128, "max_position_embeddings": 163840, "tie_word_embeddings": False,
    "rms_norm_eps": 1e-6, "hidden_act": "silu", "moe_layer_freq": 1,
}  # fmt: skip
CONFIGS: Mapping[str, Mapping[str, Any]] = {
    "Qwen3-8B": {
        **_QWEN3, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 36,
        "num_attention_heads": 32,
    },
    "Qwen3-14B": {
        **_QWEN3, "hidden_size": 5120, "intermediate_size": 17408, "num_hidden_layers": 40,
        "num_attention_heads": 40,
    },
    "Qwen3-32B": {
        **_QWEN3, "hidden_size": 5120, "intermediate_size": 25600, "num_hidden_layers": 64,
        "num_attention_heads": 64,
    },
    "Qwen3-30B-A3B": {
        **_QWEN3_MOE, "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
        "num_attention_heads": 32, "moe_intermediate_size": 768,
    },
    "Qwen3-235B-A22B": {
        **_QWEN3_MOE, "hidden_size": 4096, "intermediate_size": 12288, "num_hidden_layers": 94,
        "num_attention_heads": 64, "moe_intermediate_size": 1536,
    },
    "DeepSeek-V2-Lite": {
        **_DEEPSEEK, "architectures": ["DeepseekV2ForCausalLM"], "model_type": "deepseek_v2",
        "hidden_size": 2048, "intermediate_size": 10944, "num_hidden_layers": 27,
        "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": None,
        "vocab_size": 102400, "n_routed_experts": 64, "n_shared_experts": 2,
        "moe_intermediate_size": 1408, "num_experts_per_tok": 6, "first_k_dense_replace": 1,
        "topk_method": "greedy", "scoring_func": "softmax", "n_group": 1, "topk_group": 1,
        "routed_scaling_factor": 1.0, "norm_topk_prob": False,
    },
    "DeepSeek-V3": {
        **_DEEPSEEK, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
        "hidden_size": 7168, "intermediate_size": 18432, "num_hidden_layers": 61,
        "num_attention_heads": 128, "num_key_value_heads": 128, "q_lora_rank": 1536,
        "vocab_size": 129280, "n_routed_experts": 256, "n_shared_experts": 1,
        "moe_intermediate_size": 2048, "num_experts_per_tok": 8, "first_k_dense_replace": 3,
        "topk_method": "noaux_tc", "scoring_func": "sigmoid", "n_group": 8, "topk_group": 4,
        "routed_scaling_factor": 2.5, "norm_topk_prob": True,
    },
}  # fmt: skip


def write_model(
    folder: Path, name: str, *, dtype: str = "BF16", quantized: str | None = None, **changes: Any
) -> Path:
    """``dtype``: of projections in the shard. ``quantized``: their type for ModelSlim, if any.
    ``changes``: of the config.
    """
    config = {**CONFIGS[name], **changes}
    stored = [
        (tensor, dtype if "_proj" in tensor else "BF16", shape)
        for tensor, shape in tensors_of(config)
    ]
    write_config(folder, config)
    write_shard(folder / "model.safetensors", make_header(stored))
    if quantized:
        types = {n: quantized if "_proj" in n else "FLOAT" for n, _, _ in stored}
        describe(folder, {"model_quant_type": quantized, **types})
    return folder


def write_by_ranks(folder: Path, name: str, ranks: int, nbytes: int) -> Path:
    """W8A8SC as vllm-ascend's script leaves it: a file of ``nbytes`` for each rank."""
    write_config(folder, CONFIGS[name])
    for rank in range(ranks):
        header = make_header([("model.compressed.weight", "I8", (nbytes,))])
        write_shard(folder / f"model-rank-{rank}-part-0.safetensors", header)
    describe(folder, {"model_quant_type": "W8A8SC", "version": "1.0.0"})
    return folder


def write_config(folder: Path, config: Mapping[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config)))


def describe(folder: Path, content: Mapping[str, str]) -> None:
    (folder / "quant_model_description.json").write_text(json.dumps(dict(content)))


def tensors_of(config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    """Name and shape of each weight, as on disk."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    yield "model.embed_tokens.weight", (vocabulary, hidden)
    yield "lm_head.weight", (vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    for layer in range(config["num_hidden_layers"]):
        start = f"model.layers.{layer}."
        yield start + "input_layernorm.weight", (hidden,)
        yield start + "post_attention_layernorm.weight", (hidden,)
        attention = _mla if config.get("kv_lora_rank") else _grouped
        yield from attention(start + "self_attn.", config)
        dense = not _experts(config) or layer < config.get("first_k_dense_replace", 0)
        if dense:
            yield from _mlp(start + "mlp.", hidden, config["intermediate_size"])
            continue
        columns = config["moe_intermediate_size"]
        yield start + "mlp.gate.weight", (_experts(config), hidden)
        for expert in range(_experts(config)):
            yield from _mlp(f"{start}mlp.experts.{expert}.", hidden, columns)
        if shared := config.get("n_shared_experts"):
            yield from _mlp(start + "mlp.shared_experts.", hidden, shared * columns)


def _experts(config: Mapping[str, Any]) -> int:
    return int(config.get("num_experts") or config.get("n_routed_experts") or 0)


def _mlp(start: str, hidden: int, columns: int) -> Iterator[tuple[str, Shape]]:
    yield start + "gate_proj.weight", (columns, hidden)
    yield start + "up_proj.weight", (columns, hidden)
    yield start + "down_proj.weight", (hidden, columns)


def _grouped(start: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, head = config["hidden_size"], config["head_dim"]
    query, kv = config["num_attention_heads"] * head, config["num_key_value_heads"] * head
    for name, rows in (("q_proj", query), ("k_proj", kv), ("v_proj", kv)):
        yield f"{start}{name}.weight", (rows, hidden)
    yield start + "o_proj.weight", (hidden, query)
    yield start + "q_norm.weight", (head,)
    yield start + "k_norm.weight", (head,)


def _mla(start: str, config: Mapping[str, Any]) -> Iterator[tuple[str, Shape]]:
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    rope, nope, value = (config[k] for k in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    latent, query = config["kv_lora_rank"], config["q_lora_rank"]
    if query:
        yield start + "q_a_proj.weight", (query, hidden)
        yield start + "q_a_layernorm.weight", (query,)
        yield start + "q_b_proj.weight", (heads * (nope + rope), query)
    else:
        yield start + "q_proj.weight", (heads * (nope + rope), hidden)
    yield start + "kv_a_proj_with_mqa.weight", (latent + rope, hidden)
    yield start + "kv_a_layernorm.weight", (latent,)
    yield start + "kv_b_proj.weight", (heads * (nope + value), latent)
    yield start + "o_proj.weight", (hidden, heads * value)
