# SPDX-License-Identifier: Apache-2.0
"""One frozen view of any ``config.json``: nobody else reads its many spellings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.errors import CheckpointError
from vllm_ascend_bringup.head_topology import clean_sizes, misfit, replicas

_LENGTHS = (
    "max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "model_max_length",
    "max_sequence_length", "max_seq_length", "seq_len",
)  # fmt: skip
_TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
# Settings of what turns pictures, sound and the like into embeddings, as their models spell them.
_PART = re.compile(
    r"(vision|visual|vit|image|img|video|audio|speech|sound)(_(\w+_)?(config|processor|encoder))?"
)
_VISION = re.compile("vision|visual|vit|image|img")


@dataclass(frozen=True)
class Rope:
    """How rotary positions are stretched.

    ``type``: "default" if they are not. ``factor`` and ``original_length`` (in tokens) as the
    config states them. ``sections``: how "mrope" divides a head between time, height and width.
    """

    type: str
    factor: float | None
    original_length: int | None
    sections: tuple[int, ...]


@dataclass(frozen=True)
class ModelFacts:
    """What a model is. Counts are of heads, layers, experts; sizes are in elements.

    ``mtp_layers``: layers for multi-token prediction that the config states. ``rope``: None if it
    states nothing. ``tied``: None if it states nothing, or different things for model and text.
    ``parts``: keys of the settings of encoders for pictures, sound and the like. ``vision_heads``:
    heads of the encoder for pictures, 0 if there is none or it is not stated.
    """

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
    mtp_layers: int
    rope: Rope | None
    tied: bool | None
    parts: tuple[str, ...]
    vision_heads: int

    def kv_replicas(self, tp: int) -> int:
        """How many ranks hold a copy of each KV head at this tensor-parallel size."""
        return replicas(self._dividing_kv_heads or 1, tp)

    def misfit(self, tp: int) -> str | None:
        """Why vLLM refuses this size; None if query heads divide, and KV heads do or replicate."""
        return misfit(self.query_heads, self._dividing_kv_heads, tp)

    def clean_sizes(self) -> list[int]:
        """The sizes that vLLM accepts."""
        return clean_sizes(self.query_heads, self._dividing_kv_heads)

    @property
    def _dividing_kv_heads(self) -> int:
        # MLA's latent is whole on every rank, so it has no KV heads to divide.
        return self.query_heads if self.attention == "MLA" else self.kv_heads


def model_facts(config: Mapping[str, Any]) -> ModelFacts:
    """Normalize a config. Raises CheckpointError if it does not even name an architecture."""
    architectures = config.get("architectures")
    if not isinstance(architectures, list) or not architectures:
        raise CheckpointError(
            "config.json names no architecture",
            'a list "architectures"',
            "download config.json again; vLLM cannot choose a model class without it",
        )
    thinker = _thinker(config)
    text = text_settings(config)
    stated = (config.get("tie_word_embeddings"), text.get("tie_word_embeddings"))
    tied = {value for value in stated if isinstance(value, bool)}
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
        max_length=_number(text, *_LENGTHS),
        query_heads=query_heads,
        kv_heads=kv_heads,
        head_size=_number(text, "head_dim") or (hidden // query_heads if query_heads else 0),
        attention=_attention(text, query_heads, kv_heads),
        experts=_number(
            text, "n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"
        ),
        tied_embeddings=bool(config.get("tie_word_embeddings", text.get("tie_word_embeddings"))),
        mtp_layers=_mtp_layers(text),
        rope=_rope(text),
        tied=tied.pop() if tied in ({True}, {False}) else None,
        parts=_parts(config) + tuple(f"thinker_config.{name}" for name in _parts(thinker)),
        vision_heads=_vision_heads(config) or _vision_heads(thinker),
    )


def text_settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Those of the language model, wherever the config has them, and the others beside them."""
    inners = (_thinker(config).get("text_config"), *(config.get(key) for key in _TEXT_CONFIGS))
    return {**config, **next((i for i in inners if i and isinstance(i, dict)), {})}


def _thinker(config: Mapping[str, Any]) -> Mapping[str, Any]:
    thinker = config.get("thinker_config")
    return thinker if isinstance(thinker, dict) else {}


def _vision_heads(config: Mapping[str, Any]) -> int:
    for name in _parts(config):
        if _VISION.match(name):
            return _number(config[name], "num_attention_heads", "num_heads", "n_heads")
    return 0


def _mtp_layers(text: Mapping[str, Any]) -> int:
    """As vLLM spells them (vllm/config/speculative.py, SpeculativeConfig.hf_config_override)."""
    nested = text.get("mtp_config")
    return _number(
        text, "num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_modules"
    ) or (_number(nested, "num_nextn_predict_layers") if isinstance(nested, dict) else 0)


def _rope(text: Mapping[str, Any]) -> Rope | None:
    """From ``rope_parameters`` (transformers 5) or ``rope_scaling``, which may be per layer type.

    Of several layer types, the first that is stretched.
    """
    settings = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(settings, dict) or not settings:
        return None
    nested = [s for s in settings.values() if isinstance(s, dict)]
    kinds = [_rope_type(choice) for choice in (nested or [settings])]
    chosen = next((i for i, kind in enumerate(kinds) if kind != "default"), 0)
    settings = nested[chosen] if nested else settings
    factor: Any = settings.get("factor")
    key = "original_max_position_embeddings"
    sections = settings.get("mrope_section")
    return Rope(
        type=kinds[chosen],
        factor=float(factor) if type(factor) in (int, float) and 0 < factor < 1e6 else None,
        original_length=_number(settings, key) or _number(text, key) or None,
        sections=tuple(sections) if isinstance(sections, list) else (),
    )


def _rope_type(settings: Mapping[str, Any]) -> str:
    kind = str(settings.get("rope_type") or settings.get("type") or "default")
    # transformers renames it, because its angles are the default ones.
    return "mrope" if kind == "default" and settings.get("mrope_section") else kind


def _parts(config: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(sorted(k for k, v in config.items() if isinstance(v, dict) and _PART.fullmatch(k)))


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
