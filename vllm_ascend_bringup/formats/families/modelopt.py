# SPDX-License-Identifier: Apache-2.0
"""ModelOpt, in both its schemas: ``hf_quant_config.json`` and ``quant_method: modelopt``.

Sources: ModelOpt, torch/export/convert_hf_config.py; vLLM, layers/quantization/modelopt.py.
"""

from typing import Any

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.families.base import (
    LeftAlone,
    SchemeTable,
    Settings,
    method,
    refuse,
    wildcard,
)

_BLOCK = Scheme(("modelopt_block_fp8",))
_NVFP4 = Scheme(("modelopt_nvfp4",))
_ALGORITHMS = {
    "FP8": Scheme(("tensor_fp8",)),
    "FP8_PER_CHANNEL_PER_TOKEN": Scheme(("channel_fp8", "column_fp8")),
    "FP8_PB_WO": _BLOCK,
    "FP8_BLOCK_SCALES": _BLOCK,
    "MXFP8": Scheme(("mxfp8",)),
    "NVFP4": _NVFP4,
    "W4A16_NVFP4": _NVFP4,
    "W4A8_NVFP4_FP8": _NVFP4,
    "MXFP4": Scheme(("mxfp4",)),
    "W4A8_MXFP4_FP8": Scheme(("mxfp4",)),
}
# By a part of the algorithm's name: columns per scale.
_GROUPS = {"NVFP4": 16, "MXFP": 32}
_MIXED = "MIXED_PRECISION"


def read(settings: Settings, config: Settings) -> SchemeTable | LeftAlone | None:
    """None unless ModelOpt wrote the settings."""
    producer = settings.get("producer")
    by_modelopt = isinstance(producer, dict) and producer.get("name") == "modelopt"
    nested = settings.get("quantization")
    if isinstance(nested, dict) and "quant_algo" in nested:
        settings, by_modelopt = nested, True
    if not (by_modelopt or method(settings).startswith("modelopt")):
        return None
    algorithm = _algorithm(settings)
    if algorithm == _MIXED:
        return _mixed(settings.get("quantized_layers"))
    scheme = _ALGORITHMS.get(algorithm)
    if scheme is None:
        return LeftAlone(f"ModelOpt quant_algo {algorithm or 'missing'} is not decoded here")
    _check_group(algorithm, settings)
    return SchemeTable("modelopt", (scheme,))


def _mixed(layers: object) -> SchemeTable | LeftAlone:
    if not isinstance(layers, dict) or not layers:
        raise refuse(
            f"quant_algo {_MIXED} without quantized_layers",
            "quantized_layers: an object that gives each module's quant_algo",
        )
    names: dict[str, Scheme] = {}
    patterns = []
    for module, layer in layers.items():
        algorithm = _algorithm(layer if isinstance(layer, dict) else {"quant_algo": layer})
        if algorithm in ("", "NONE"):
            continue
        scheme = _ALGORITHMS.get(algorithm)
        if scheme is None:
            return LeftAlone(f"ModelOpt quant_algo {algorithm} of {module} is not decoded here")
        if isinstance(layer, dict):
            _check_group(algorithm, layer)
        if "*" in module:
            patterns.append((wildcard(module), scheme))
        else:
            names[module] = scheme
    if not names and not patterns:
        return LeftAlone("ModelOpt settings that quantize no weights")
    return SchemeTable("modelopt", (), names, tuple(patterns))


def _check_group(algorithm: str, settings: "dict[str, Any] | Settings") -> None:
    """Raise if the settings state another group size than the algorithm has."""
    expected = next((size for name, size in _GROUPS.items() if name in algorithm), None)
    stated = settings.get("group_size")
    if expected and stated not in (None, expected):
        raise refuse(f"quant_algo {algorithm} with group_size {stated!r}", f"{expected}")


def _algorithm(settings: "dict[str, Any] | Settings") -> str:
    return str(settings.get("quant_algo") or "").upper()
