# SPDX-License-Identifier: Apache-2.0
"""One frozen view of any ``config.json``: nobody else reads its many spellings."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.errors import CheckpointError


@dataclass(frozen=True)
class ModelFacts:
    """What a model is. Counts are of heads, layers, experts; sizes are in elements."""

    architecture: str
    model_type: str
    dtype: str
    layers: int
    hidden_size: int
    vocabulary: int
    max_length: int
    query_heads: int
    kv_heads: int
    head_size: int
    attention: str
    experts: int
    tied_embeddings: bool

    def kv_replicas(self, tp: int) -> int:
        """How many ranks hold a copy of each KV head at this tensor-parallel size."""
        return max(1, tp // max(1, self.kv_heads))

    def allows_tp(self, tp: int) -> bool:
        """Whether vLLM accepts this size: query heads divide, KV heads divide or replicate."""
        if self.query_heads % tp:
            return False
        return self.attention == "MLA" or not (self.kv_heads % tp and tp % self.kv_heads)


def model_facts(config: Mapping[str, Any]) -> ModelFacts:
    """Normalize a config. Raises CheckpointError if it does not even name an architecture."""
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise CheckpointError(
            "config.json names no architecture",
            'a list "architectures"',
            "download config.json again; vLLM cannot choose a model class without it",
        )
    inner = config.get("text_config") or config.get("llm_config") or {}
    text = {**config, **inner} if isinstance(inner, dict) else config
    query_heads = _number(text, "num_attention_heads", "n_head", "n_heads")
    kv_heads = _number(text, "num_key_value_heads", "num_kv_heads", "multi_query_group_num")
    hidden = _number(text, "hidden_size", "n_embd", "d_model", "dim")
    kv_heads = kv_heads or query_heads
    return ModelFacts(
        architecture=str(architectures[0]),
        model_type=str(config.get("model_type", "")),
        dtype=str(text.get("torch_dtype") or text.get("dtype") or "unknown"),
        layers=_number(text, "num_hidden_layers", "n_layer", "num_layers", "n_layers"),
        hidden_size=hidden,
        vocabulary=_number(text, "vocab_size", "padded_vocab_size"),
        max_length=_number(
            text, "max_position_embeddings", "n_positions", "max_seq_len", "seq_length"
        ),
        query_heads=query_heads,
        kv_heads=kv_heads,
        head_size=_number(text, "head_dim") or (hidden // query_heads if query_heads else 0),
        attention=_attention(text, query_heads, kv_heads),
        experts=_number(
            text, "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"
        ),
        tied_embeddings=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings"))),
    )


def _attention(text: Mapping[str, Any], query_heads: int, kv_heads: int) -> str:
    if text.get("kv_lora_rank"):
        return "MLA"
    if not query_heads:
        return "unknown"
    kind = "MHA" if kv_heads == query_heads else "MQA" if kv_heads == 1 else "GQA"
    kinds = text.get("layer_types")
    others = set(kinds) - {"full_attention"} if isinstance(kinds, list) else set()
    return kind + "".join(f" + {other.replace('_', ' ')}" for other in sorted(others))


def _number(text: Mapping[str, Any], *names: str) -> int:
    """The first of ``names`` that is a number; 0 if none is."""
    for name in names:
        value = text.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return 0
