# SPDX-License-Identifier: Apache-2.0
"""From quantization settings as exporters write them to one frozen table of schemes.

The one place that knows how fp8, compressed-tensors and ModelOpt configs are spelled. A config it
does not fully understand gives None: then the plugin leaves the checkpoint to vLLM.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Scheme

_BLOCK = ("block_fp8",)
_CHANNEL = ("channel_fp8",)
_TENSOR = ("tensor_fp8",)

# quant_method "fp8" with one of these keys describes only the dense layers: the experts are fp4.
_HYBRID_KEYS = (
    "store_dtype", "routed_experts_quant_method", "moe_quant_algo", "expert_dtype", "dense_format",
)  # fmt: skip
_MODELOPT_ALGORITHMS = {
    "FP8": Scheme(_TENSOR),
    "FP8_PER_CHANNEL_PER_TOKEN": Scheme(_CHANNEL),
}


@dataclass(frozen=True)
class SchemeTable:
    """Which scheme a weight has, by module name. ``family``: the config's own name for itself.

    ``groups``: (targets, scheme) in the config's order; a target is a module name, ``re:`` and a
    pattern matched from the start of the name, or a class name such as ``Linear``.
    """

    family: str
    groups: tuple[tuple[tuple[str, ...], Scheme], ...]

    def scheme(self, module: str) -> Scheme:
        """The scheme of the weight in ``module``: a name match first, then a class match."""
        for targets, scheme in self.groups:
            for target in targets:
                pattern = target.removeprefix("re:")
                if target == module or (target != pattern and re.match(pattern, module)):
                    return scheme
        # Which class a module has cannot be read from a checkpoint. Configs use the class name
        # for "all the rest", so the last such group is it.
        for targets, scheme in reversed(self.groups):
            if any(t[:1].isupper() and "." not in t for t in targets):
                return scheme
        return self.groups[-1][1]


def scheme_table(settings: Mapping[str, Any]) -> SchemeTable | None:
    """Understand quantization settings, or return None if they are not all fp8 we decode.

    Raises FormatError for settings of a known family that contradict themselves.
    """
    method = str(settings.get("quant_method") or "").lower().replace("_", "-")
    if method == "fp8":
        return _fp8(settings)
    if method == "compressed-tensors":
        return _compressed_tensors(settings)
    nested = settings.get("quantization")
    producer = settings.get("producer")
    if method == "modelopt" or (isinstance(producer, dict) and producer.get("name") == "modelopt"):
        return _modelopt(nested if isinstance(nested, dict) else settings)
    return None


def _fp8(settings: Mapping[str, Any]) -> SchemeTable | None:
    if any(settings.get(key) for key in _HYBRID_KEYS):
        return None
    block = settings.get("weight_block_size")
    if block is None:
        return SchemeTable("fp8", ((("Linear",), Scheme(_TENSOR + _CHANNEL)),))
    if settings.get("activation_scheme") == "static":
        raise FormatError(
            "weight_block_size together with activation_scheme static",
            "activation_scheme dynamic, which block fp8 needs",
            "correct quantization_config in config.json",
        )
    return SchemeTable("fp8", ((("Linear",), Scheme(_BLOCK, _block_size(block))),))


def _compressed_tensors(settings: Mapping[str, Any]) -> SchemeTable | None:
    groups = settings.get("config_groups")
    if settings.get("transform_config") or settings.get("sparsity_config"):
        return None  # rotated or sparse weights need more than scales
    if not isinstance(groups, dict) or not groups:
        return None
    table = []
    for group in groups.values():
        if not isinstance(group, dict) or not isinstance(group.get("weights"), dict):
            return None
        scheme = _compressed_group(group, settings.get("format"))
        if scheme is None:
            return None
        targets = group.get("targets") or ["Linear"]
        if not isinstance(targets, list):
            return None
        table.append((tuple(map(_target, targets)), scheme))
    return SchemeTable("compressed-tensors", tuple(table))


def _compressed_group(group: Mapping[str, Any], default_format: object) -> Scheme | None:
    weights = group["weights"]
    stored = group.get("format") or default_format
    if stored not in ("float-quantized", "naive-quantized"):
        return None
    if (weights.get("num_bits"), weights.get("type")) != (8, "float"):
        return None
    strategy = weights.get("strategy")
    if strategy == "block":
        return Scheme(_BLOCK, _block_size(weights.get("block_structure")))
    return {"channel": Scheme(_CHANNEL), "tensor": Scheme(_TENSOR)}.get(str(strategy))


def _target(value: object) -> str:
    target = str(value)
    try:
        if target.startswith("re:"):
            re.compile(target.removeprefix("re:"))
    except re.error as error:
        raise FormatError(
            f"target {target!r} in the quantization settings: {error}",
            "a module name, a class name, or re: and a regular expression",
            "correct quantization_config in config.json",
        ) from None
    return target


def _modelopt(settings: Mapping[str, Any]) -> SchemeTable | None:
    scheme = _MODELOPT_ALGORITHMS.get(str(settings.get("quant_algo") or "").upper())
    return SchemeTable("modelopt", ((("Linear",), scheme),)) if scheme else None


def _block_size(value: object) -> tuple[int, int]:
    """``[128, 128]`` or ``"128x128"`` as two positive numbers."""
    parts = value.split("x") if isinstance(value, str) else value
    if isinstance(parts, (list, tuple)) and len(parts) == 2:
        numbers = [int(p) if str(p).strip().isdecimal() else 0 for p in parts]
        if all(n > 0 for n in numbers):
            return numbers[0], numbers[1]
    raise FormatError(
        f"block size {value!r} in the quantization settings",
        "two positive whole numbers, rows and columns",
        "correct the quantization settings",
    )
