# SPDX-License-Identifier: Apache-2.0
"""Pair every low-precision weight of a checkpoint with its scale, from headers alone.

Strict in both directions: a low-precision weight without a scale and a scale without such a
weight are errors. Partners may live in different shards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vllm_ascend_bringup.checkpoint import LOW_PRECISION, TensorInfo
from vllm_ascend_bringup.errors import FormatError, listed
from vllm_ascend_bringup.formats.base import CODE_FORMATS, SCALE_DTYPES, Pairing
from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.formats.schemes import SchemeTable

_SCALE_SUFFIXES = ("_scale_inv", "_scale")
# Activation and KV-cache scales. They never touch the weights; with a bf16 or fp16 KV cache vLLM
# sets them to one (vllm/model_executor/layers/quantization/kv_cache.py), so dropping is lossless.
_DROPPED_SUFFIXES = (
    "input_scale", "activation_scale", "input_scale_ub", "output_scale", "prob_output_scale",
    ".q_scale", ".k_scale", ".v_scale", ".kv_scale",
    ".q_zero_point", ".k_zero_point", ".v_zero_point",
)  # fmt: skip


@dataclass(frozen=True)
class DecodePlan:
    """What to do with each tensor of a checkpoint; a name in none of the three is kept as it is.

    ``pairings``: weight name -> how to decode it. ``scales``: names of the scales they use.
    ``dropped``: activation and KV-cache scales.
    """

    pairings: Mapping[str, Pairing]
    scales: frozenset[str]
    dropped: frozenset[str]


def decode_plan(tensors: Mapping[str, TensorInfo], table: SchemeTable) -> DecodePlan:
    """Pair weights and scales. Raises FormatError naming tensor and shard at the first mismatch."""
    dropped = frozenset(name for name in tensors if name.endswith(_DROPPED_SUFFIXES))
    pairings = {}
    for name, tensor in tensors.items():
        if (
            tensor.dtype in LOW_PRECISION
            and not _is_scale_of(name, tensors)
            and name not in dropped
        ):
            pairings[name] = _pair(tensor, tensors, table)
    scales = frozenset(pairing.scale.name for pairing in pairings.values())
    for name, tensor in tensors.items():
        if name not in scales and name not in dropped:
            _refuse_orphan(tensor, tensors)
    return DecodePlan(MappingProxyType(pairings), scales, dropped)


def refuse_low_precision(tensors: Mapping[str, TensorInfo], why: str) -> None:
    """Raise FormatError if ``tensors`` holds low-precision dtypes; ``why`` nothing decodes them."""
    found = {t.name: t.dtype for t in tensors.values() if t.dtype in LOW_PRECISION}
    if found:
        kinds = ", ".join(sorted(set(found.values())))
        raise FormatError(
            f"{len(found)} tensors of dtype {kinds} ({listed(set(found), 3)}), but {why}",
            "quantization settings that say how these tensors are scaled",
            "restore quantization_config in config.json as the checkpoint's author published it "
            "(deleting it makes vLLM copy the codes as if they were weights)",
        )


def _is_scale_of(name: str, tensors: Mapping[str, TensorInfo]) -> bool:
    return any(name.endswith(s) and name.removesuffix(s) in tensors for s in _SCALE_SUFFIXES)


def _pair(weight: TensorInfo, tensors: Mapping[str, TensorInfo], table: SchemeTable) -> Pairing:
    names = [weight.name + suffix for suffix in _SCALE_SUFFIXES]
    found = [tensors[name] for name in names if name in tensors]
    where = f"{weight.name} ({weight.dtype} {list(weight.shape)}) in {weight.shard}"
    if weight.dtype not in CODE_FORMATS or len(weight.shape) not in (2, 3):
        raise FormatError(
            f"low-precision weight {where}",
            f"2-D or 3-D weights of dtype {', '.join(CODE_FORMATS)}",
            "this format is not supported; report it with the output of `bringup inspect`",
        )
    if not found:
        raise FormatError(
            f"low-precision weight {where} has no scale",
            f"{names[0]} or {names[1]} in any shard",
            "download all shards; a weight without its scale cannot be decoded",
        )
    if len(found) == 2:
        raise FormatError(
            f"{where} has two scales: {found[0].name} and {found[1].name}",
            "one of them",
            "ask for a new export of the checkpoint",
        )
    return _match(weight, found[0], table)


def _match(weight: TensorInfo, scale: TensorInfo, table: SchemeTable) -> Pairing:
    """Choose the format whose scale shape fits, among those the config allows."""
    scheme = table.scheme(weight.name.removesuffix(".weight"))
    where = f"scale {scale.name} ({scale.dtype} {list(scale.shape)}) in {scale.shard}"
    if scale.dtype not in SCALE_DTYPES:
        raise FormatError(
            where, f"a scale of dtype {', '.join(sorted(SCALE_DTYPES))}",
            "ask for a new export of the checkpoint",
        )  # fmt: skip
    accepted = []
    for format_id in scheme.formats:
        format_ = FORMATS[format_id]
        shapes = format_.scale_shapes(weight.shape, scheme)
        if scale.shape in shapes:
            return Pairing(weight, scale, format_, scheme)
        accepted += [f"{list(shape)} ({format_.title})" for shape in shapes]
    block = f" with block size {list(scheme.block)}" if scheme.block else ""
    raise FormatError(
        f"{where} does not fit weight {list(weight.shape)}",
        " or ".join(accepted) + block + f", by the {table.family} settings",
        "check the block size in the quantization settings, or ask for a new export",
    )


def _refuse_orphan(tensor: TensorInfo, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise if ``tensor`` is the scale of a weight that is absent or not low-precision.

    Only names that can be nothing else count: models have parameters called ``..._scale`` too.
    """
    name = tensor.name
    for suffix in _SCALE_SUFFIXES:
        weight = name.removesuffix(suffix)
        if weight != name and (weight in tensors or weight.endswith(".weight") or "_inv" in suffix):
            partner = tensors.get(weight)
            found = f"its weight is {partner.dtype}" if partner else f"there is no {weight}"
            raise FormatError(
                f"scale {name} in {tensor.shard} has no low-precision weight: {found}",
                f"{weight} of dtype {', '.join(CODE_FORMATS)}",
                "download all shards, or ask for a new export of the checkpoint",
            )
