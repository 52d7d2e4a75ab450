# SPDX-License-Identifier: Apache-2.0
"""``quant_method: quark`` (AMD): specs for all layers, for some names, or for some classes.

Source: vLLM, layers/quantization/quark/quark.py.
"""

from typing import Any

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.families.base import (
    LeftAlone,
    SchemeTable,
    Settings,
    block_size,
    group_size,
    method,
    refuse,
    wildcard,
)

_MX_GROUP, _NV_GROUP = 32, 16


def read(settings: Settings, config: Settings) -> SchemeTable | LeftAlone | None:
    """None unless the method is quark."""
    if method(settings) != "quark":
        return None
    default, patterns = [], []
    by_class = settings.get("layer_type_quant_config") or {}
    for spec in (*_values(by_class), settings.get("global_quant_config")):
        scheme = _scheme(spec)
        if isinstance(scheme, LeftAlone):
            return scheme
        if scheme:
            default.append(scheme)
    by_name = settings.get("layer_quant_config") or {}
    for name, spec in by_name.items() if isinstance(by_name, dict) else ():
        scheme = _scheme(spec)
        if isinstance(scheme, LeftAlone):
            return scheme
        if scheme:
            patterns.append((wildcard(name), scheme))
    if not default and not patterns:
        return LeftAlone("Quark settings that quantize no weights")
    return SchemeTable("quark", tuple(dict.fromkeys(default)), patterns=tuple(patterns))


def _values(value: object) -> "tuple[object, ...]":
    return tuple(value.values()) if isinstance(value, dict) else ()


def _scheme(spec: object) -> Scheme | LeftAlone | None:
    """The scheme of one spec; None if it leaves weights as they are."""
    weight: Any = spec.get("weight") if isinstance(spec, dict) else None
    if not weight:
        return None
    levels = weight if isinstance(weight, list) else [weight]
    dtypes = [str(level.get("dtype")) for level in levels if isinstance(level, dict)]
    first = levels[0]
    if dtypes == ["fp4", "fp8_e4m3"]:
        for key, expected in (("qscheme", "per_group"), ("group_size", _NV_GROUP)):
            if first.get(key) not in (None, expected):
                raise refuse(f"NVFP4 with {key} {first[key]!r}", f"{key} {expected!r}")
        return Scheme(("modelopt_nvfp4",))
    if len(levels) == 1 and isinstance(first, dict):
        qscheme, group = str(first.get("qscheme")), group_size(first.get("group_size"))
        if dtypes == ["fp4"] and qscheme == "per_group" and group == _MX_GROUP:
            return Scheme(("mxfp4",))
        if dtypes == ["fp8_e4m3"]:
            return _fp8_scheme(first, qscheme, group)
    return LeftAlone(f"Quark weights of dtype {' + '.join(dtypes) or '?'} are not decoded here")


def _fp8_scheme(weight: "dict[str, Any]", qscheme: str, group: int | None) -> Scheme | LeftAlone:
    if qscheme == "per_block":
        return Scheme(("block_fp8",), block_size(weight.get("block_size")))
    if qscheme == "per_group" and group == _MX_GROUP:
        return Scheme(("mxfp8",))
    if qscheme == "per_group" and group:
        return Scheme(("group_fp8",), group=group)
    if qscheme in ("per_tensor", "per_channel"):
        return Scheme(("tensor_fp8" if qscheme == "per_tensor" else "channel_fp8",))
    return LeftAlone(f"Quark qscheme {qscheme} is not decoded here")
