# SPDX-License-Identifier: Apache-2.0
"""Whether vllm-ascend executes a low-precision format, or we decode it at load time.

Decided by capability, never by version: the chip must execute the format, vllm-ascend must have
taken over vLLM's quantization method, and must have registered a scheme for every kind of layer.
What fails one of these is decoded, also where vllm-ascend would turn it into bf16 itself.
"""

import importlib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.formats.base import Pairing, Scheme
from vllm_ascend_bringup.hardware import Chip, installed_chip

COMPRESSED_TENSORS = "compressed-tensors"
# (method, "scheme:layer"): whether vllm-ascend's class for this quantization method can choose
# this scheme, and the scheme is registered for this kind of layer.
HasMethod = Callable[[str, str], bool]


@dataclass(frozen=True)
class Need:
    """What one group of a checkpoint's weights needs to be executed as it is stored.

    ``kinds``: "fp8_block", "fp8_channel", "fp8_tensor", "mxfp8", "mxfp4", "nvfp4", "int8", and
    "int4", which is symmetric and, without quantized activations, one scale per 32 columns; any
    other name is a kind that nothing executes. ``method``: vLLM's quantization method for it.
    ``moe_only``: no linear layer is packed. ``activations``: quantized as "none" (not at all),
    "static" (a scale in the checkpoint) or "dynamic"; compressed-tensors chooses by it.
    """

    kinds: frozenset[str]
    method: str
    moe_only: bool = False
    activations: str = "none"


@dataclass(frozen=True)
class Decision:
    """Whether to decode. ``reason``: one clause for a log line."""

    decode: bool
    reason: str


@dataclass(frozen=True)
class Route:
    """How vllm-ascend executes a need, in the versions that do.

    ``executes``: what the chip must be able to do. ``linear``, ``moe``: the registered scheme,
    "scheme:layer", in every spelling; empty if no version has one. ``activations``: empty for a
    method that does not choose by them.
    """

    method: str
    kinds: frozenset[str]
    executes: frozenset[str]
    linear: tuple[str, ...]
    moe: tuple[str, ...]
    activations: str = ""

    def serves(self, need: Need) -> bool:
        """Whether this is the route for ``need``."""
        same = (self.method, self.kinds) == (need.method, need.kinds)
        return same and self.activations in ("", need.activations)


_INT8, _INT4 = frozenset({"int8"}), frozenset({"int4"})
_MXFP8, _MXFP4 = frozenset({"mxfp8"}), frozenset({"mxfp4"})
_BLOCK, _CHANNEL, _FP8 = (frozenset({name}) for name in ("fp8_block", "fp8_channel", "fp8"))
# Sources: vllm_ascend/quantization/{fp8,modelopt_mxfp8,compressed_tensors}_config.py. Left out on
# purpose: fp8_channel with static activations, which the last of these takes for int8.
ROUTES = (
    # Turned into mxfp8 at load, on the 950 (pull request 14852).
    Route("fp8", _BLOCK, _MXFP8, ("fp8:linear",), ("fp8:moe",)),
    Route("deepseek_v4_fp8", _BLOCK | _MXFP4, _MXFP8 | _MXFP4,
          ("fp8:ds_linear", "FP8:ds_linear"), ("fp8:ds_w4a8_moe", "FP8:w4a8_moe")),
    Route("mxfp8", _MXFP8, _MXFP8, ("W8A8_MXFP8:linear",), ("W8A8_MXFP8:moe",)),
    Route("modelopt_mxfp8", _MXFP8, _MXFP8, ("W8A8_MXFP8:linear",), ("W8A8_MXFP8:moe",)),
    Route(COMPRESSED_TENSORS, _CHANNEL, _FP8,
          ("W8A8FP8_DYNAMIC:linear",), ("W8A8FP8_DYNAMIC:moe",), "dynamic"),
    # W4A8_MXFP:linear exists, but not for packed weights.
    Route(COMPRESSED_TENSORS, _MXFP4, _MXFP8 | _MXFP4, (), ("W4A8_MXFP:moe",), "none"),
    Route(COMPRESSED_TENSORS, _INT8, _INT8, ("W8A8:linear",), (), "static"),
    Route(COMPRESSED_TENSORS, _INT8, _INT8,
          ("W8A8_DYNAMIC:linear",), ("W8A8_DYNAMIC:moe",), "dynamic"),
    Route(COMPRESSED_TENSORS, _INT4, _INT8 | _INT4,
          ("W4A8_DYNAMIC:linear",), ("W4A8_DYNAMIC:moe",), "dynamic"),
    Route(COMPRESSED_TENSORS, _INT4, _INT4, (), ("W4A16:moe",), "none"),
)  # fmt: skip


# Format -> kind; packed integers depend on their scheme.
_KINDS = {
    "block_fp8": "fp8_block", "chunked_qkv_fp8": "fp8_block", "modelopt_block_fp8": "fp8_block",
    "channel_fp8": "fp8_channel", "column_fp8": "fp8_channel", "tensor_fp8": "fp8_tensor",
    "group_fp8": "fp8_group", "mxfp8": "mxfp8", "mxfp4": "mxfp4", "gpt_oss_mxfp4": "mxfp4",
    "nvfp4": "nvfp4", "modelopt_nvfp4": "nvfp4",
}  # fmt: skip
# Source: vLLM, layers/quantization/compressed_tensors/compressed_tensors.py.
_WITH_ACTIVATIONS = frozenset(
    {"naive-quantized", "int-quantized", "float-quantized", "nvfp4-pack-quantized"}
)
# The one group size of vllm-ascend's int4 scheme for MoE (quantization/methods/w4a16.py).
_INT4_GROUP = 32


def need_of(
    settings: Mapping[str, Any], facts: Mapping[str, Any], pairings: Iterable[Pairing]
) -> Need:
    """What a checkpoint with these weights needs to be executed as it is stored."""
    found = list(pairings)
    activations = _activations(settings)
    kinds = {_kind(pairing.format.id, pairing.scheme, activations) for pairing in found}
    moe_only = bool(found) and all(".experts." in pairing.stored.name for pairing in found)
    return Need(frozenset(kinds), _method(settings, facts, kinds), moe_only, activations)


def _kind(format_id: str, scheme: Scheme, activations: str) -> str:
    if format_id != "packed_int":
        return _KINDS[format_id]
    usual = scheme.symmetric and (activations != "none" or scheme.group == _INT4_GROUP)
    return "int4" if scheme.bits == 4 and usual else f"packed int{scheme.bits}"


def _method(settings: Mapping[str, Any], facts: Mapping[str, Any], kinds: set[str]) -> str:
    """vLLM's name for the method that would load the checkpoint as it is stored."""
    method = str(settings.get("quant_method") or "modelopt").lower()
    if method == "compressed_tensors":
        return COMPRESSED_TENSORS
    if method == "fp8" and str(facts.get("model_type", "")).startswith("deepseek_v4"):
        return "deepseek_v4_fp8"
    return "modelopt_mxfp8" if method == "modelopt" and kinds == {"mxfp8"} else method


def _activations(settings: Mapping[str, Any]) -> str:
    """How compressed-tensors settings quantize activations: none, static, dynamic, or mixed.

    Formats outside ``_WITH_ACTIVATIONS`` are executed without, whatever their settings say.
    """
    groups = settings.get("config_groups")
    found = set()
    for group in groups.values() if isinstance(groups, dict) else ():
        if not isinstance(group, dict) or not group.get("weights"):
            continue
        given = group.get("input_activations")
        stored = group.get("format") or settings.get("format")
        if not isinstance(given, dict) or stored not in _WITH_ACTIVATIONS:
            found.add("none")
        else:
            found.add("dynamic" if given.get("dynamic") else "static")
    return found.pop() if len(found) == 1 else "mixed" if found else "none"


def decide(
    need: Need, chip: Chip | None, supported: Collection[str], has_method: HasMethod
) -> Decision:
    """Whether to decode ``need`` on ``chip`` (None: no Ascend chip).

    ``supported``: quantization methods that the platform allows and vllm-ascend has taken over.
    """
    kinds = " and ".join(sorted(need.kinds))
    if chip is None:
        return Decision(True, f"no known Ascend chip is here to execute {kinds}")
    route = next((route for route in ROUTES if route.serves(need)), None)
    missing = f"vllm-ascend on {chip.title} has no"
    if route is None:
        return Decision(True, f"{missing} way to execute {kinds} of {need.method}")
    if not route.executes <= chip.executes:
        return Decision(True, f"{chip.title} does not execute {kinds}")
    if need.method not in supported:
        return Decision(True, f"{missing} quantization method {need.method} for {kinds}")
    layers = {"MoE": route.moe} if need.moe_only else {"linear": route.linear, "MoE": route.moe}
    for layer, schemes in layers.items():
        # A route without a scheme for MoE layers still serves models that have none.
        needed = bool(schemes) or layer == "linear" or need.moe_only
        if needed and not any(has_method(need.method, scheme) for scheme in schemes):
            return Decision(True, f"{missing} scheme for {layer} layers of {kinds}")
    return Decision(False, f"{chip.title} executes {kinds} and vllm-ascend has a method for it")


@dataclass(frozen=True)
class Platform:
    """What ``decide`` wants to know of the platform this process runs on."""

    chip: Chip | None
    supported: frozenset[str]
    has_method: HasMethod


def probe_platform() -> Platform | None:
    """Ask vLLM's platform and vllm-ascend; None on platforms that are neither CPU nor NPU."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        return Platform(None, frozenset(), lambda method, scheme: False)
    if current_platform.device_type != "npu":
        return None
    configs = _taken_over(current_platform.supported_quantization)
    registered = _scheme_registry()

    def has_method(method: str, scheme: str) -> bool:
        name, _, layer = scheme.partition(":")
        chosen = method in configs and chooses(method, configs[method], name)
        return chosen and registered(name, layer) is not None

    return Platform(installed_chip(), frozenset(configs), has_method)


def chooses(method: str, config: Any, scheme: str) -> bool:
    """Whether a config class that chooses its scheme by name knows this name.

    Only that of compressed-tensors does. A scheme may be registered (for ModelSlim) that it never
    returns: the registry alone does not tell.
    """
    if method != COMPRESSED_TENSORS:
        return True
    code = getattr(getattr(config, "_detect_quant_type", None), "__code__", None)
    return code is not None and scheme in code.co_consts


def _taken_over(methods: Collection[str]) -> dict[str, Any]:
    """Those of ``methods`` whose config class is vllm-ascend's: on the 310P only ModelSlim's is."""
    from vllm.model_executor.layers import quantization

    known = {name: quantization.get_quantization_config(name)
             for name in methods if name in quantization.QUANTIZATION_METHODS}  # fmt: skip
    return {name: config for name, config in known.items()
            if config.__module__.startswith("vllm_ascend.")}  # fmt: skip


def _scheme_registry() -> Callable[[str, str], Any]:
    """vllm-ascend's lookup of a scheme class; one that finds none if it is not where it was."""
    try:
        methods: Any = importlib.import_module("vllm_ascend.quantization.methods")
        lookup: Callable[[str, str], Any] = methods.get_scheme_class
    except (ImportError, AttributeError):
        return lambda scheme, layer: None
    return lookup
