# SPDX-License-Identifier: Apache-2.0
"""Pair every low-precision weight of a checkpoint with its partners, from headers alone.

Strict in both directions: a low-precision weight without a scale and a scale without such a
weight are errors. Partners may live in different shards.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from vllm_ascend_bringup.checkpoint import LOW_PRECISION, TensorInfo
from vllm_ascend_bringup.errors import FormatError, listed
from vllm_ascend_bringup.formats.base import (
    Pairing,
    Scheme,
    Shape,
    Stored,
    Unfit,
    WeightFormat,
)
from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.formats.families.base import SchemeTable
from vllm_ascend_bringup.formats.naming import (
    DROPPED_SUFFIXES,
    holds_codes,
    orphan_of,
    refuse_unsupported,
    stored_weight,
)


@dataclass(frozen=True)
class DecodePlan:
    """What to do with each tensor of a checkpoint; a name in none of the three is kept as it is.

    ``pairings``: name of the codes -> how to decode them. ``scales``: names of their partners.
    ``dropped``: activation and KV-cache scales.
    """

    pairings: Mapping[str, Pairing]
    scales: frozenset[str]
    dropped: frozenset[str]


def decode_plan(tensors: Mapping[str, TensorInfo], table: SchemeTable) -> DecodePlan:
    """Pair weights and scales. Raises FormatError naming tensor and shard at the first mismatch."""
    refuse_unsupported(tensors)
    _refuse_six_bits(tensors)
    dropped = frozenset(name for name in tensors if name.endswith(DROPPED_SUFFIXES))
    pairings = {}
    for name, tensor in tensors.items():
        if name not in dropped and holds_codes(tensor, tensors):
            pairings[name] = _pair(tensor, tensors, table)
    scales = frozenset(p.name for pairing in pairings.values() for p in
                       pairing.stored.partners.values())  # fmt: skip
    for name, tensor in tensors.items():
        if name not in scales and name not in pairings and name not in dropped:
            _refuse_orphan(tensor, tensors)
    plan = DecodePlan(MappingProxyType(pairings), scales, dropped)
    _refuse_collisions(plan, tensors)
    return plan


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


def _pair(codes: TensorInfo, tensors: Mapping[str, TensorInfo], table: SchemeTable) -> Pairing:
    """Choose the format that fits dtype, partners and scale shape, among those allowed."""
    schemes = table.schemes(codes.name.removesuffix(".weight").removesuffix(".weight_packed"))
    candidates = [(FORMATS[id_], scheme) for scheme in schemes for id_ in scheme.formats]
    _refuse_codes(codes, [format_ for format_, _ in candidates], table)
    stored = stored_weight(codes, tensors)
    fitting = [(f, s) for f, s in candidates if codes.dtype in f.code_dtypes]
    wanted: list[str] = []
    found: dict[Scheme, Pairing] = {}
    for format_, scheme in fitting:
        fit = _fit(format_, stored, scheme)
        if isinstance(fit, Pairing):
            found.setdefault(scheme, fit)
        else:
            wanted += [text for text in fit if text not in wanted]
    if found:
        _refuse_ambiguity(codes, list(found.values()), table)
        return next(iter(found.values()))
    block = next((f" with block size {list(s.block)}" for _, s in fitting if s.block), "")
    partners = [t for role, t in stored.partners.items() if role != "scale"]
    raise FormatError(
        f"scale {_where(stored.scale)} does not fit weight {codes.name} {codes.dtype} "
        f"{list(codes.shape)}" + "".join(f" with {_where(tensor)}" for tensor in partners),
        " or ".join(wanted) + block + f", by the {table.family} settings",
        "check the quantization settings, download all shards, or ask for a new export",
    )


def _refuse_ambiguity(codes: TensorInfo, found: list[Pairing], table: SchemeTable) -> None:
    """Raise if two schemes of the settings fit, and mean something different."""
    if len({_meaning(pairing) for pairing in found}) > 1:
        ways = " or ".join(f"{p.format.title} in blocks of {list(p.layout.block)}" for p in found)
        raise FormatError(
            f"{_where(codes)} can be read as {ways}",
            f"{table.family} settings that name its module in one group",
            "restore the quantization settings as the checkpoint's author published them",
        )


def _meaning(pairing: Pairing) -> tuple[object, ...]:
    """Equal for two pairings that decode to the same."""
    layout = pairing.layout
    block = tuple(min(size, n) for size, n in zip(layout.block, layout.shape[-2:], strict=True))
    return (layout.shape, layout.grid, block, layout.code_format, layout.turned)


def _fit(format_: WeightFormat, stored: Stored, scheme: Scheme) -> "Pairing | list[str]":
    """The pairing, or what this format would have wanted."""
    roles = stored.partners.keys() - {"scale"}
    if missing := format_.needs - roles:
        return [f"a {' and a '.join(sorted(missing))} ({format_.title})"]
    if surplus := roles - format_.needs - format_.allows:
        return [f"no {' and no '.join(sorted(surplus))} ({format_.title})"]
    if stored.scale.dtype not in format_.scale_dtypes:
        return [f"a scale of dtype {', '.join(sorted(format_.scale_dtypes))} ({format_.title})"]
    try:
        layouts = format_.layouts(stored, scheme)
    except Unfit as unfit:
        return [f"{unfit} ({format_.title})"]
    layout = layouts.get(stored.scale.shape)
    if layout is None:
        return [f"{list(shape)} ({format_.title})" for shape in layouts]
    return Pairing(stored, format_, scheme, layout)


def _refuse_codes(codes: TensorInfo, formats: list[WeightFormat], table: SchemeTable) -> None:
    """Raise unless some format takes codes of this dtype and number of dimensions."""
    dtypes = sorted({dtype for format_ in formats for dtype in format_.code_dtypes})
    dimensions = (4,) if codes.name.endswith("_blocks") else (2, 3)
    if codes.dtype not in dtypes or len(codes.shape) not in dimensions or 0 in codes.shape:
        raise FormatError(
            f"low-precision weight {_where(codes)}",
            f"2-D or 3-D weights of dtype {', '.join(dtypes)}, by the {table.family} settings",
            "this is not supported; report it with the output of `bringup inspect`",
        )


def _refuse_six_bits(tensors: Mapping[str, TensorInfo]) -> None:
    """Raise for dtypes that no torch reads, whatever the tensor is for."""
    for tensor in tensors.values():
        if tensor.dtype.startswith("F6_"):
            raise FormatError(
                f"low-precision tensor {_where(tensor)}",
                "dtypes that torch has; six-bit floats are none",
                "this is not supported; report it with the output of `bringup inspect`",
            )


def _refuse_orphan(tensor: TensorInfo, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise if ``tensor`` is the scale of a weight that is absent or not low-precision."""
    weight = orphan_of(tensor, tensors)
    if weight is not None:
        partner = tensors.get(weight)
        found = f"its weight is {partner.dtype}" if partner else f"there is no {weight}"
        raise FormatError(
            f"scale {tensor.name} in {tensor.shard} has no low-precision weight: {found}",
            f"{weight} of a low-precision dtype such as F8_E4M3",
            "download all shards, or ask for a new export of the checkpoint",
        )


def _refuse_collisions(plan: DecodePlan, tensors: Mapping[str, TensorInfo]) -> None:
    """Raise if a decoded weight would get the name of another tensor."""
    seen: dict[str, str] = {}
    for name, pairing in plan.pairings.items():
        for output, _ in pairing.outputs:
            other = seen.setdefault(output, name)
            if other != name or (output != name and output in tensors):
                raise FormatError(
                    f"{name} in {pairing.stored.codes.shard} decodes to {output}, which is also "
                    + (f"what {other} decodes to" if other != name else "a tensor on disk"),
                    "each weight once",
                    "ask for a new export of the checkpoint",
                )


def output_shapes(plan: DecodePlan) -> dict[str, Shape]:
    """Name -> shape of every decoded weight."""
    return {name: shape for p in plan.pairings.values() for name, shape in p.outputs}


def _where(tensor: TensorInfo) -> str:
    return f"{tensor.name} ({tensor.dtype} {list(tensor.shape)}) in {tensor.shard}"
