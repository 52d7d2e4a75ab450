# SPDX-License-Identifier: Apache-2.0
"""Settings of the plugin, read from ``VLLM_ASCEND_BRINGUP_*`` environment variables."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vllm_ascend_bringup.errors import SettingsError, listed
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.language import Text

PREFIX = "VLLM_ASCEND_BRINGUP_"

_CHOICES: dict[str, tuple[str, ...]] = {
    "DEQUANT": ("auto", "always", "never"),
    "AUDIT": ("error", "warn"),
    "PLATFORM": (
        "auto",
        *(f"reference-{chip.id}" for chip in CHIPS.values() if chip.block_sizes),
    ),
    "DECODE_ON": ("host", "device"),
}
_KNOWN = (*_CHOICES, "THREADS", "RECIPES", "PATCHES")
_CORRECT = Text("set one of these or unset the variable", "请改为其中之一，或取消该变量")


@dataclass(frozen=True)
class Settings:
    """Validated settings.

    ``dequant``: when to decode low-precision weights at load time. ``auto``: on platforms that do
    not execute them (CPU and Ascend), ``always``, or ``never``. ``audit``: whether a tensor that
    nothing consumed or a parameter that nothing filled is an ``error`` or a ``warn``-ing.
    ``threads``: decode threads per process, or None for cores / ranks on this machine.
    ``recipes``: a recipe of the user's or a folder of them. ``patches``: ``auto``, ``off`` or names
    of patches, separated by commas. ``platform``: ``auto`` for vLLM's choice, or
    ``reference-CHIP``, which computes on a CPU what that chip would. ``decode_on``: where weights
    of parameters on an NPU are decoded, the ``host`` or the ``device``, as far as their format is
    decoded there.
    """

    dequant: str = "auto"
    audit: str = "error"
    threads: int | None = None
    recipes: Path | None = None
    patches: str = "auto"
    platform: str = "auto"
    decode_on: str = "host"


def read_settings(environ: Mapping[str, str] | None = None) -> Settings:
    """Read and validate the settings.

    Raises SettingsError for an unknown variable with our prefix or a value that is not a choice.
    """
    environ = os.environ if environ is None else environ
    given = {k.removeprefix(PREFIX): v for k, v in environ.items() if k.startswith(PREFIX)}
    unknown = sorted(set(given) - set(_KNOWN))
    if unknown:
        raise SettingsError(
            Text(
                f"unknown environment variable {PREFIX}{unknown[0]}",
                f"未知的环境变量 {PREFIX}{unknown[0]}",
            ),
            _one_of(listed([PREFIX + name for name in _KNOWN])),
            Text("correct its name or unset it", "请更正变量名或取消该变量"),
        )
    values = {name: _choice(name, given.get(name, choices[0])) for name, choices in
              _CHOICES.items()}  # fmt: skip
    recipes = Path(given["RECIPES"]) if given.get("RECIPES") else None
    threads = _threads(given.get("THREADS", "auto"))
    patches = given.get("PATCHES") or "auto"
    return Settings(
        values["DEQUANT"], values["AUDIT"], threads, recipes, patches, values["PLATFORM"],
        values["DECODE_ON"],
    )  # fmt: skip


def _choice(name: str, value: str) -> str:
    if value not in _CHOICES[name]:
        raise SettingsError(_set_to(name, value), _one_of(", ".join(_CHOICES[name])), _CORRECT)
    return value


def _threads(value: str) -> int | None:
    if value == "auto":
        return None
    if not value.isdecimal() or int(value) == 0:
        raise SettingsError(
            _set_to("THREADS", value),
            Text("auto, or a positive whole number of threads", "auto，或表示线程数的正整数"),
            _CORRECT,
        )
    return int(value)


def _set_to(name: str, value: str) -> Text:
    return Text(f"{PREFIX}{name}={value!r}", f"{PREFIX}{name}={value!r}")


def _one_of(names: str) -> Text:
    return Text(f"one of {names}", f"{names} 之一")
