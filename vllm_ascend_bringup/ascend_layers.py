# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's methods for unquantized layers, which moved between its versions.

On an NPU a quantization config must name these itself; vLLM's own methods would skip the weight
layouts vllm-ascend's kernels want.
"""

import importlib
from typing import Any

# In the order to try: the first that exists is this version's.
LINEAR_METHODS = ("vllm_ascend.ops.linear:AscendUnquantizedLinearMethod",)
MOE_METHODS = (
    "vllm_ascend.ops.fused_moe.routed_experts:AscendUnquantizedFusedMoEMethod",
    "vllm_ascend.ops.fused_moe.fused_moe:AscendUnquantizedFusedMoEMethod",
)
# vllm-ascend keeps a method of its own for the chip without grouped matmul.
MOE_METHODS_310P = ("vllm_ascend._310p.fused_moe.fused_moe:AscendUnquantizedFusedMoEMethod310",)


def linear_method() -> Any:
    """vllm-ascend's unquantized linear method."""
    return _first(LINEAR_METHODS)()


def moe_method(moe_config: Any) -> Any:
    """vllm-ascend's unquantized MoE method for the chip at hand."""
    utils = importlib.import_module("vllm_ascend.utils")
    return _first(MOE_METHODS_310P if utils.is_310p() else MOE_METHODS)(moe_config)


def _first(targets: tuple[str, ...]) -> Any:
    """The first of ``targets`` ("module:class") that exists. Raises ImportError if none does."""
    for target in targets:
        module, _, name = target.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            continue
    raise ImportError(f"this vllm-ascend has none of {', '.join(targets)}")
