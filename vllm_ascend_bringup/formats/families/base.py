# SPDX-License-Identifier: Apache-2.0
"""What reading quantization settings gives: a table of schemes, or a reason to leave them alone."""

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Scheme

Settings = Mapping[str, Any]
# What families read of the model's config, besides the quantization settings.
SIDE_KEYS = (
    "expert_dtype",
    "store_dtype",
    "routed_experts_quant_method",
    "moe_quant_algo",
    "dense_format",
)
_FACTS = (
    "model_type", *SIDE_KEYS,
    "num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim",
    "swa_num_attention_heads", "swa_num_key_value_heads", "swa_head_dim", "swa_v_head_dim",
)  # fmt: skip


def config_facts(config: Settings) -> dict[str, Any]:
    """What families need of a model's config (config.json as a mapping)."""
    text = config.get("text_config")
    merged = {**config, **text} if isinstance(text, dict) else config
    return {name: merged[name] for name in _FACTS if merged.get(name) is not None}


@dataclass(frozen=True)
class LeftAlone:
    """Settings this package does not decode. ``reason``: why, a clause for a log line."""

    reason: str


@dataclass(frozen=True)
class SchemeTable:
    """Which schemes a weight may have, by module name. ``family``: the config's name for itself.

    ``names``: module -> scheme. ``patterns``: regular expressions, matched from the start of the
    name, in the config's order. ``default``: for all other modules. What a config excludes is not
    kept: the tensors decide (exporters exclude modules that are quantized, and the reverse).
    """

    family: str
    default: tuple[Scheme, ...]
    names: Mapping[str, Scheme] = field(default_factory=dict)
    patterns: tuple[tuple["re.Pattern[str]", Scheme], ...] = ()

    def schemes(self, module: str) -> tuple[Scheme, ...]:
        """The schemes to try for the weight in ``module``, in this order."""
        if module in self.names:
            return (self.names[module],)
        for pattern, scheme in self.patterns:
            if pattern.match(module):
                return (scheme,)
        # Configs also use names of fused modules, which are none on disk.
        return self.default or tuple(dict.fromkeys([*self.names.values(),
                                                    *(s for _, s in self.patterns)]))  # fmt: skip

    @property
    def formats(self) -> frozenset[str]:
        """Ids of all formats that a weight may have."""
        schemes = (*self.default, *self.names.values(), *(s for _, s in self.patterns))
        return frozenset(id_ for scheme in schemes for id_ in scheme.formats)


def block_size(value: object) -> tuple[int, int]:
    """``[128, 128]`` or ``"128x128"`` as two positive numbers; FormatError for anything else."""
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


def group_size(value: object) -> int | None:
    """A positive number; None and -1 mean the whole row. FormatError for anything else."""
    if value is None or value == -1:
        return None
    if type(value) is int and value > 0:
        return value
    raise FormatError(
        f"group size {value!r} in the quantization settings",
        "a positive whole number of columns, or -1 for the whole row",
        "correct the quantization settings",
    )


def pattern(value: str) -> "re.Pattern[str]":
    """Compile a regular expression of a config; FormatError if it is none."""
    try:
        return re.compile(value)
    except re.error as error:
        raise FormatError(
            f"target {'re:' + value!r} in the quantization settings: {error}",
            "a module name, a class name, or re: and a regular expression",
            "correct quantization_config in config.json",
        ) from None


def wildcard(value: str) -> "re.Pattern[str]":
    """A shell-style pattern as a regular expression."""
    return re.compile(fnmatch.translate(value))


def refuse(found: str, expected: str) -> FormatError:
    """The error for settings that contradict themselves; the caller raises it."""
    return FormatError(
        found,
        expected,
        "restore the quantization settings as the checkpoint's author published them",
    )


def method(settings: Settings) -> str:
    """``quant_method``, normalized."""
    return str(settings.get("quant_method") or "").lower().replace("_", "-")


def is_class_name(target: str) -> bool:
    """``Linear`` is the name of a class, ``model.layers.0.mlp`` of a module."""
    return target[:1].isupper() and "." not in target
