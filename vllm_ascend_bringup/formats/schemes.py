# SPDX-License-Identifier: Apache-2.0
"""From quantization settings as exporters write them to one table of schemes."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vllm_ascend_bringup.checkpoint import MODELSLIM_FILE, Checkpoint
from vllm_ascend_bringup.formats.families.base import LeftAlone, SchemeTable, config_facts
from vllm_ascend_bringup.formats.families.catalog import FAMILIES

_NO_CONFIG: Mapping[str, Any] = MappingProxyType({})


def scheme_table(
    settings: Mapping[str, Any], config: Mapping[str, Any] = _NO_CONFIG
) -> SchemeTable | LeftAlone:
    """Understand quantization settings. ``config``: the model's config, for what they leave out.

    Raises FormatError for settings of a known family that contradict themselves.
    """
    for read in FAMILIES.values():
        table = read(settings, config)
        if table is not None:
            return table
    method = settings.get("quant_method") or "unnamed"
    return LeftAlone(f"quantization method {method} is not decoded here")


def checkpoint_schemes(checkpoint: Checkpoint) -> SchemeTable | LeftAlone:
    """The same for a checkpoint read from disk; ModelSlim's description wins over its config."""
    if (checkpoint.path / MODELSLIM_FILE).exists():
        return LeftAlone(f"{MODELSLIM_FILE}: ModelSlim weights, which vllm-ascend executes")
    if checkpoint.quantization is None:
        return LeftAlone("the config has no quantization settings")
    return scheme_table(checkpoint.quantization.settings, config_facts(checkpoint.config))
