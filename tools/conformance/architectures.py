# SPDX-License-Identifier: Apache-2.0
"""Which architectures there are to compare, and a tiny config for each.

Imports vLLM for its registry; whoever only reads results needs none of this.
"""

import dataclasses
from typing import Any

from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

VOCABULARY = 512
_LAYERS = 2
# All are chosen for every token: each weight counts, and rounding cannot flip a choice, which
# moves log-probabilities by 1 and more.
_EXPERTS = 4
# Every spelling that a config class of transformers has, and what it gets. Sizes of projections
# are multiples of 128, so that each is whole blocks.
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
    "max_position_embeddings": 256, "n_positions": 256, "max_seq_len": 256,
    "num_hidden_layers": _LAYERS, "n_layer": _LAYERS, "n_layers": _LAYERS, "num_layers": _LAYERS,
    "hidden_size": 256, "n_embd": 256, "d_model": 256,
    "intermediate_size": 384, "ffn_hidden_size": 384, "n_inner": 384, "ffn_dim": 384,
    "num_attention_heads": 4, "n_head": 4, "n_heads": 4,
    "num_key_value_heads": 2, "num_kv_heads": 2, "head_dim": 64,
    "num_experts": _EXPERTS, "n_routed_experts": _EXPERTS, "num_local_experts": _EXPERTS,
    "moe_num_experts": _EXPERTS, "num_experts_per_tok": _EXPERTS, "moe_k": _EXPERTS,
    "moe_topk": _EXPERTS, "top_k_experts": _EXPERTS,
    "n_shared_experts": 1, "num_shared_experts": 1, "moe_num_shared_experts": 1,
    "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "num_dense_layers": 1,
    "moe_layer_start_index": 1,
    "moe_intermediate_size": 128, "shared_expert_intermediate_size": 128,
    "shared_intermediate_size": 128, "expert_ffn_hidden_size": 128,
    "moe_shared_expert_intermediate_size": 128, "intermediate_size_mlp": 384,
    "q_lora_rank": 128, "kv_lora_rank": 512, "qk_rope_head_dim": 64, "qk_nope_head_dim": 64,
    "v_head_dim": 64,
    "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 64,
    "linear_value_head_dim": 64,
    "logit_scale": 1.0,
}  # fmt: skip
_MIXED_LAYERS = ["linear_attention", "full_attention"]
# What the sizes above leave wrong or missing, by architecture: one layer of each kind, sizes that
# must fit each other, and keys that published configs have and these config classes lack.
_OVERRIDES: dict[str, dict[str, Any]] = {
    "AfmoeForCausalLM": {"score_func": "sigmoid", "route_norm": True, "n_group": 1, "topk_group": 1,
                         "layer_types": ["sliding_attention", "full_attention"]},
    "AXK1ForCausalLM": {"first_k_dense_replace": 0, "scoring_func": "sigmoid",
                        "topk_method": "noaux_tc"},
    "DbrxForCausalLM": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"moe_num_experts": _EXPERTS, "moe_top_k": _EXPERTS, "ffn_hidden_size": 384},
    },
    "DeepseekV3ForCausalLM": {"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    "FalconForCausalLM": {"ffn_hidden_size": 1024},
    "FalconH1ForCausalLM": {"mamba_d_ssm": 512, "mamba_n_heads": 8, "mamba_d_state": 64},
    "Gemma3nForCausalLM": {
        "layer_types": ["sliding_attention", "full_attention"], "num_kv_shared_layers": 0,
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 128,
    },
    "Gemma4ForCausalLM": {
        "layer_types": ["sliding_attention", "full_attention"], "global_head_dim": 128,
        "vocab_size_per_layer_input": VOCABULARY, "hidden_size_per_layer_input": 128,
        "enable_moe_block": True,
    },
    "Glm4MoeForCausalLM": {"head_dim": 64},
    "Glm4MoeLiteForCausalLM": {"first_k_dense_replace": 1},
    "GraniteMoeHybridForCausalLM": {"layer_types": _MIXED_LAYERS, "mamba_n_heads": 8,
                                    "mamba_d_state": 64},
    "HYV3ForCausalLM": {"first_k_dense_replace": 1, "expert_hidden_dim": 128, "qk_norm": True,
                         "route_norm": True},
    "JambaForCausalLM": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "KimiLinearForCausalLM": {"layer_types": _MIXED_LAYERS, "linear_head_dim": 64,
                              "linear_num_heads": 4},
    "Lfm2ForCausalLM": {"layer_types": ["conv", "full_attention"], "conv_dim": 256,
                        "conv_dim_out": 256, "block_dim": 256},
    "Lfm2MoeForCausalLM": {"layer_types": ["conv", "full_attention"]},
    "Llama4ForCausalLM": {"num_experts_per_tok": 1},
    # No identities: transformers stores weights for them too, published checkpoints do not.
    "LongcatFlashForCausalLM": {"zero_expert_num": 0, "zero_expert_type": "identity",
                                "mla_scale_q_lora": True, "mla_scale_kv_lora": True},
    "Mamba2ForCausalLM": {"num_heads": 8, "n_groups": 1, "state_size": 64},
    "MiMoV2FlashForCausalLM": {
        "hybrid_layer_pattern": [0, 1], "moe_layer_freq": [0, 1], "layernorm_epsilon": 1e-5,
        "head_dim": 192, "v_head_dim": 192, "swa_head_dim": 192, "swa_v_head_dim": 192,
        "swa_num_attention_heads": 4, "swa_num_key_value_heads": 4, "sliding_window_size": 128,
        "scoring_func": "sigmoid", "topk_method": "noaux_tc", "n_shared_experts": None,
        "add_full_attention_sink_bias": False, "add_swa_attention_sink_bias": True,
        "swa_rope_theta": 10000.0, "rope_theta": 5000000.0, "partial_rotary_factor": 0.334,
    },
    "MiniMaxM2ForCausalLM": {"rotary_dim": 32, "scoring_func": "sigmoid",
                              "use_routing_bias": True},
    # No experts: vLLM has none without a gate on CPU.
    "NemotronHForCausalLM": {
        "layer_types": ["linear_attention", "full_attention", "mlp"], "num_hidden_layers": 3,
        "mamba_num_heads": 8, "n_groups": 2, "ssm_state_size": 64,
    },
    "Qwen3_5ForCausalLM": {"layer_types": _MIXED_LAYERS, "full_attention_interval": 2},
    "Qwen3_5MoeForCausalLM": {"layer_types": _MIXED_LAYERS, "full_attention_interval": 2},
    "Qwen3NextForCausalLM": {"layer_types": _MIXED_LAYERS, "full_attention_interval": 2},
    "Qwen4ExpForCausalLM": {
        "layer_types": _MIXED_LAYERS, "hc_lowrank": 64, "indexer_n_heads": 4,
        "indexer_kv_heads": 1, "indexer_head_dim": 64, "indexer_budget": 64,
        "indexer_compress_ratio": 4, "output_gate_type": "sigmoid",
    },
    "Zamba2ForCausalLM": {"layers_block_type": ["linear_attention", "hybrid"],
                          "n_mamba_heads": 8, "mamba_headdim": 64,
                          "num_key_value_heads": 4},
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Architecture:
    """One that both have. ``place``: module and class in vLLM."""

    name: str
    model_type: str
    place: str


def shared_architectures() -> dict[str, Architecture]:
    """vLLM's text-generation architectures that transformers has too, by name."""
    from vllm.model_executor.models.registry import _TEXT_GENERATION_MODELS

    types: dict[str, str] = {}
    for model_type, classes in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.items():
        for name in (classes,) if isinstance(classes, str) else classes:
            # A multimodal type comes before its text part, which is the one for text alone.
            types[name] = model_type
    return {
        name: Architecture(name, types[name], f"{module}.{class_}")
        for name, (module, class_) in _TEXT_GENERATION_MODELS.items()
        if name in types
    }


def tiny_config(architecture: Architecture) -> Any:
    """A config of transformers with two small layers."""
    config_class = CONFIG_MAPPING[architecture.model_type]
    fields = {field.name for field in dataclasses.fields(config_class)}
    sizes = {name: value for name, value in _SIZES.items() if name in fields}
    if "kv_lora_rank" in fields:  # MLA: as many of them as query heads
        sizes["num_key_value_heads"] = sizes["num_attention_heads"]
    config = config_class(**{**sizes, **_OVERRIDES.get(architecture.name, {})})
    config.architectures = [architecture.name]
    return config
