# SPDX-License-Identifier: Apache-2.0
"""``quant_method: fp8``: DeepSeek, Qwen, GLM, MiniMax-M2, Mistral; and hybrids named after them.

The name describes the dense layers only. With one of the side keys the experts are fp4; each
weight's dtype and partners then tell which. Sources: vLLM, layers/quantization/fp8.py,
models/deepseek_v4/quant_config.py, models/bailing_moe_v3.py, models/mimo_v2.py.
"""

from typing import Any

from vllm_ascend_bringup.formats.base import QkvChunks, Scheme
from vllm_ascend_bringup.formats.families.base import (
    LeftAlone,
    SchemeTable,
    Settings,
    block_size,
    method,
    pattern,
    refuse,
)

_EXPERT_KEYS = {
    "expert_dtype": ("fp4", "fp8"),
    "store_dtype": ("mxfp4", "nvfp4"),
    "routed_experts_quant_method": ("mxfp4",),
    "moe_quant_algo": ("NVFP4", "MXFP4"),
}
_DENSE_KEY, _DENSE_VALUES = "dense_format", ("mxfp8",)
# An n-gram embedding table in pieces that share one per-tensor scale (Qwen4-Exp).
_TABLE_SHARDS = pattern(r".*\.shard_\d+$")
_FUSED_QKV = pattern(r".*\.qkv_proj$")


def read(settings: Settings, config: Settings) -> SchemeTable | LeftAlone | None:
    """None unless the method is fp8. Raises FormatError for contradictions."""
    if method(settings) not in ("fp8", "deepseek-v4-fp8"):
        return None
    formats: tuple[str, ...] = ("tensor_fp8", "channel_fp8")
    block = None
    if settings.get("weight_block_size") is not None:
        if settings.get("activation_scheme") == "static":
            raise refuse(
                "weight_block_size together with activation_scheme static",
                "activation_scheme dynamic, which block fp8 needs",
            )
        formats, block = ("block_fp8",), block_size(settings["weight_block_size"])
    if _side_key(settings, config, _DENSE_KEY, _DENSE_VALUES):
        formats = ("mxfp8", *formats)
    hybrid = [_side_key(settings, config, key, values) for key, values in _EXPERT_KEYS.items()]
    if any(hybrid) or str(config.get("model_type", "")).startswith("deepseek_v4"):
        formats += ("mxfp4", "modelopt_nvfp4")
    scheme = Scheme(formats, block)
    patterns = [(_TABLE_SHARDS, Scheme(("tensor_fp8",)))]
    if block and str(config.get("model_type", "")).startswith("mimo_v2"):
        chunked = Scheme(("chunked_qkv_fp8",), block, chunks=_qkv_chunks(config))
        patterns.append((_FUSED_QKV, chunked))
    return SchemeTable("fp8", (scheme,), patterns=tuple(patterns))


def _side_key(settings: Settings, config: Settings, key: str, known: tuple[str, ...]) -> bool:
    """Whether the key is set, in the settings or beside them; FormatError for an unknown value."""
    value = settings.get(key) or config.get(key)
    if value and str(value).lower() not in map(str.lower, known):
        raise refuse(f"{key} {value!r}", f"{key} {' or '.join(known)}")
    return bool(value)


def _qkv_chunks(config: Settings) -> QkvChunks | None:
    """How MiMo-V2 chunks its fused qkv_proj: by num_key_value_heads, in both kinds of layers."""
    count = _number(config, "num_key_value_heads")
    rows = []
    for prefix in ("", "swa_"):
        heads, kv_heads, size = (
            _number(config, prefix + name)
            for name in ("num_attention_heads", "num_key_value_heads", "head_dim")
        )
        v_size = _number(config, f"{prefix}v_head_dim") or size
        if count and heads % count == 0 and kv_heads % count == 0 and heads and kv_heads and size:
            q, kv = heads // count, kv_heads // count
            rows.append((q * size, kv * size, kv * v_size))
    return QkvChunks(count, tuple(dict.fromkeys(rows))) if rows else None


def _number(config: Settings, key: str) -> int:
    value: Any = config.get(key)
    return value if type(value) is int and value > 0 else 0
