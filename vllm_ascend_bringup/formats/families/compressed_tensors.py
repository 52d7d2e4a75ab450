# SPDX-License-Identifier: Apache-2.0
"""``quant_method: compressed-tensors`` (llm-compressor, Kimi-K2, RedHatAI).

Sources: compressed-tensors, quantization/quant_config.py, quant_args.py and quant_scheme.py
(presets); vLLM, layers/quantization/compressed_tensors.
"""

from collections.abc import Mapping
from typing import Any

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.families.base import (
    LeftAlone,
    SchemeTable,
    Settings,
    block_size,
    group_size,
    is_class_name,
    method,
    pattern,
    refuse,
)

_FP8: "dict[str, Any]" = {"num_bits": 8, "type": "float"}
_FP4: "dict[str, Any]" = {"num_bits": 4, "type": "float"}
_MX = {"strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}
_INT = {"type": "int", "symmetric": True}
# A group may be only a list of targets under a preset's name.
_PRESETS: "dict[str, dict[str, Any]]" = {
    "FP8": {**_FP8, "strategy": "tensor"},
    "FP8_DYNAMIC": {**_FP8, "strategy": "channel"},
    "FP8_BLOCK": {**_FP8, "strategy": "block", "block_structure": [128, 128]},
    "MXFP8": {**_FP8, **_MX}, "MXFP8A16": {**_FP8, **_MX},
    "MXFP4": {**_FP4, **_MX}, "MXFP4A16": {**_FP4, **_MX},
    "NVFP4": {**_FP4, "strategy": "tensor_group", "group_size": 16},
    "NVFP4A16": {**_FP4, "strategy": "tensor_group", "group_size": 16},
    "W4A16": {**_INT, "num_bits": 4, "strategy": "group", "group_size": 128},
    "W4A16_ASYM": {"type": "int", "symmetric": False, "num_bits": 4, "strategy": "group",
                   "group_size": 128},
    "W8A16": {**_INT, "num_bits": 8, "strategy": "channel"},
    "W8A8": {**_INT, "num_bits": 8, "strategy": "channel"},
    "INT8": {**_INT, "num_bits": 8, "strategy": "channel"},
    "W4A8": {**_INT, "num_bits": 4, "strategy": "group", "group_size": 128},
    "W4AFP8": {**_INT, "num_bits": 4, "strategy": "group", "group_size": 128},
}  # fmt: skip
_INT_ACTIVATIONS = frozenset({"W8A8", "INT8", "W4A8"})
# Formats that leave nothing to choose: the arguments they come with.
_FIXED: "dict[object, tuple[str, dict[str, object]]]" = {
    "mxfp4-pack-quantized": ("mxfp4", {**_FP4, "strategy": "group", "group_size": 32}),
    "nvfp4-pack-quantized": ("nvfp4", {**_FP4, "strategy": "tensor_group", "group_size": 16}),
    "mxfp8-quantized": ("mxfp8", {**_FP8, "strategy": "group", "group_size": 32}),
}
_FLOAT_FORMATS = ("float-quantized", "naive-quantized")


def read(settings: Settings, config: Settings) -> SchemeTable | LeftAlone | None:
    """None unless the method is compressed-tensors."""
    if method(settings) != "compressed-tensors":
        return None
    if settings.get("transform_config"):
        return LeftAlone("transform_config: the weights are rotated, which scales cannot undo")
    if settings.get("sparsity_config"):
        return LeftAlone("sparsity_config: sparse weights are not decoded here")
    groups = settings.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        raise refuse("compressed-tensors settings without config_groups", "at least one group")
    names: dict[str, Scheme] = {}
    patterns, default = [], []
    for name, value in groups.items():
        group = _group(str(name), value)
        targets = [str(target) for target in group.get("targets") or ["Linear"]]
        if group.get("weights") is None or all(t.endswith("Attention") for t in targets):
            continue  # activations, or the KV cache
        scheme = _scheme(group, settings.get("format"))
        if isinstance(scheme, LeftAlone):
            return scheme
        for target in targets:
            if target.startswith("re:"):
                patterns.append((pattern(target.removeprefix("re:")), scheme))
            elif is_class_name(target):
                default.append(scheme)
            else:
                names[target] = scheme
    if not (names or patterns or default):
        return LeftAlone("compressed-tensors settings that quantize no weights")
    # Configs use the class name for "all the rest", so the last such group comes first.
    ordered = tuple(dict.fromkeys(reversed(default)))
    return SchemeTable("compressed-tensors", ordered, names, tuple(patterns))


def _group(name: str, value: object) -> "dict[str, Any]":
    if isinstance(value, list):
        if name.upper() == "UNQUANTIZED":
            return {"targets": value}
        if name.upper() not in _PRESETS:
            raise refuse(f"config group {name!r} without weights", f"one of {', '.join(_PRESETS)}")
        group = {"targets": value, "weights": _PRESETS[name.upper()]}
        return group | ({"input_activations": {"dynamic": True}} if name.upper() in _INT_ACTIVATIONS
                        else {})  # fmt: skip
    if isinstance(value, dict) and isinstance(value.get("targets") or [], list):
        weights = value.get("weights")
        if weights is None or isinstance(weights, dict):
            return value
    raise refuse(f"config group {name!r} is malformed", "targets and weights")


def _scheme(group: "Mapping[str, Any]", default_format: object) -> Scheme | LeftAlone:
    weights: Mapping[str, Any] = group["weights"]
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    strategy = str(weights.get("strategy"))
    stored = group.get("format") or default_format
    if not isinstance(stored, str | None):
        raise refuse(f"format {stored!r}", "the name of a format")
    if stored in (None, "mixed-precision", "dense"):
        stored = _usual_format(group)
    if type(bits) is not int:
        raise refuse(f"config_groups with num_bits {bits!r}", "a whole number")
    if stored in _FIXED:
        format_id, expected = _FIXED[stored]
        for key, value in expected.items():
            if weights.get(key) not in (None, value):
                raise refuse(f"{stored} with {key} {weights[key]!r}", f"{key} {value!r}")
        return Scheme((format_id,))
    if stored == "pack-quantized" and kind == "int":
        if weights.get("actorder") in ("group", "dynamic"):
            return LeftAlone("actorder group: the columns are reordered")
        group_ = group_size(weights.get("group_size")) if strategy == "group" else None
        symmetric = weights.get("symmetric", True)
        if not isinstance(symmetric, bool):
            raise refuse(f"symmetric {symmetric!r}", "true or false")
        if bits not in (4, 8) or strategy not in ("group", "channel"):
            raise refuse(f"pack-quantized with num_bits {bits!r}, strategy {strategy!r}",
                         "num_bits 4 or 8, strategy group or channel")  # fmt: skip
        return Scheme(("packed_int",), group=group_, bits=bits, symmetric=symmetric)
    if stored in _FLOAT_FORMATS and (bits, kind) == (8, "float"):
        return _fp8_scheme(weights, strategy)
    if kind == "int":
        return LeftAlone(f"compressed-tensors {stored} int{bits}: executed, not decoded")
    raise refuse(f"compressed-tensors format {stored!r} of {bits}-bit {kind}",
                 "a format of the support table (README)")  # fmt: skip


def _fp8_scheme(weights: "Mapping[str, Any]", strategy: str) -> Scheme:
    if strategy == "block":
        return Scheme(("block_fp8",), block_size(weights.get("block_structure")))
    if strategy == "group":
        if "uint8" in str(weights.get("scale_dtype")):
            if weights.get("group_size") not in (None, 32):
                raise refuse(f"MXFP8 with group_size {weights['group_size']!r}", "group_size 32")
            return Scheme(("mxfp8",))
        return Scheme(("group_fp8",), group=group_size(weights.get("group_size")))
    if strategy in ("channel", "tensor"):
        return Scheme((f"{strategy}_fp8",))
    raise refuse(f"strategy {strategy!r}", "tensor, channel, block or group")


def _usual_format(group: "Mapping[str, Any]") -> str:
    """What compressed-tensors writes for these arguments if nothing says otherwise."""
    weights = group["weights"]
    bits, kind = weights.get("num_bits"), weights.get("type", "int")
    if kind == "int":
        return "int-quantized" if group.get("input_activations") else "pack-quantized"
    if bits == 4:
        return ("nvfp4" if weights.get("strategy") == "tensor_group" else "mxfp4") + (
            "-pack-quantized"
        )
    return "float-quantized"
