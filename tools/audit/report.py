# SPDX-License-Identifier: Apache-2.0
"""Judge what the probe found: matched, missing, unexpected, conflicts."""

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vllm_ascend_bringup.checkpoint import Checkpoint
from vllm_ascend_bringup.errors import LoadError
from vllm_ascend_bringup.recipes.rules import nearest
from vllm_ascend_bringup.tools.audit.templates import by_template, template

SCHEMA_VERSION = 1
BLIND_SPOTS = (
    "values: a tensor of the right name and shape may hold something else, such as rows of Q and "
    "K in another order for RoPE, or gate and up exchanged",
    "whether the class computes what the model's authors meant",
    "ranks other than 0, expert and pipeline parallelism, and draft models",
    "parameters that are made after loading, and how an NPU platform changes the class",
)


@dataclass(frozen=True)
class Finding:
    """One template of names. ``count`` of them; ``detail`` says what is wrong with the first.

    ``nearest``: what the other side has that is most like it.
    """

    names: str
    count: int
    detail: str
    nearest: tuple[str, ...]


@dataclass(frozen=True)
class AuditReport:
    """Everything ``audit`` prints. Counts are of tensors; names are those of the checkpoint.

    ``left_out``: what the class leaves out on purpose. ``casts``: dtypes of tensors that become
    others in the parameter. ``ties``: parameter -> the one it shares its memory with.
    ``warnings``: what the tensor-parallel size does, and rules of the recipe that match nothing.
    """

    path: str
    architecture: str
    serving_class: str
    recipe: str | None
    tp: int
    dtype: str
    matched: int
    left_out: int
    missing: tuple[Finding, ...]
    unexpected: tuple[Finding, ...]
    conflicts: tuple[Finding, ...]
    casts: Mapping[str, int]
    ties: Mapping[str, str]
    warnings: tuple[str, ...]
    blind_spots: tuple[str, ...] = BLIND_SPOTS

    @property
    def clean(self) -> bool:
        """Whether every tensor found its parameter and every parameter its tensors."""
        return not (self.missing or self.unexpected or self.conflicts)

    @property
    def exit_code(self) -> int:
        """0, or that of leftovers after loading."""
        return 0 if self.clean else LoadError.exit_code

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``schema_version`` changes when a field changes meaning or goes."""
        return {"schema_version": SCHEMA_VERSION, "command": "audit", **asdict(self)}


@dataclass(frozen=True)
class Leftovers:
    """Both sides of what does not fit: name -> shape (of parameters: full at TP=1 only)."""

    missing: Mapping[str, tuple[int, ...]]
    unexpected: Mapping[str, tuple[int, ...]]
    conflicts: Mapping[str, str]
    taken: frozenset[str]


def leftovers(found: Mapping[str, Any], tp: int) -> Leftovers:
    """Sort the probe's answer. Names are final ones, as the class saw them."""
    shapes = {name: tuple(shape) for _, name, shape in found["names"]}
    wanted = {
        piece: tuple(shape)
        for pieces in found["pieces"].values()
        for piece, shape in pieces.items()
    }
    taken = frozenset(found["taken"])
    conflicts: dict[str, str] = {}
    unexpected: dict[str, tuple[int, ...]] = {}
    why = {template(name): text for name, text in found["refused"].items() if text}
    for name in found["refused"]:
        if name in wanted or name in found["parameters"]:
            conflicts[name] = _conflict(shapes[name], wanted.get(name), tp, why[template(name)])
        else:
            unexpected[name] = shapes[name]
    left_out = set(found["left_out"])
    for name in shapes.keys() - taken - left_out - conflicts.keys():
        unexpected[name] = shapes[name]
    for name, count in found["read"].items():
        if tp == 1 and name not in conflicts and count < math.prod(shapes[name]):
            silent = f"only {count} of its elements are read"
            conflicts[name] = _conflict(shapes[name], wanted.get(name), tp, silent)
    missing: dict[str, tuple[int, ...]] = {}
    for name, parameter in found["parameters"].items():
        if parameter["written"] < math.prod(parameter["shape"]) and not parameter["excused"]:
            pieces = found["pieces"][name]
            absent = [piece for piece in pieces if piece not in taken and piece not in conflicts]
            missing |= {piece: tuple(pieces[piece]) for piece in absent}
            if not absent and not any(piece in conflicts for piece in pieces):
                missing[name] = tuple(parameter["shape"])
    return Leftovers(missing, unexpected, conflicts, taken)


def _conflict(found: tuple[int, ...], wanted: tuple[int, ...] | None, tp: int, error: str) -> str:
    if wanted is not None and tp == 1 and wanted != found:
        return f"{list(found)} in the checkpoint, {list(wanted)} wanted"
    return f"{list(found)} in the checkpoint: {error}"


def judge(
    checkpoint: Checkpoint, tp: int, found: Mapping[str, Any], warnings: Iterable[str] = ()
) -> AuditReport:
    """The report of one probe. ``warnings``: about the tensor-parallel size."""
    left = leftovers(found, tp)
    origin = {name: first for first, name, _ in reversed(found["names"])}

    def shown(name: str) -> str:
        first = origin[name]
        return name if first == name else f"{first} (renamed {name})"

    unexpected_shapes = {
        name: f"{list(shape)}, taken by nothing" for name, shape in left.unexpected.items()
    }
    absent = {name: f"{list(shape)} wanted, nothing fills it" if tp == 1 else "nothing fills it"
              for name, shape in left.missing.items()}  # fmt: skip
    return AuditReport(
        path=str(checkpoint.path),
        architecture=str(checkpoint.config["architectures"][0]),
        serving_class=found["class"],
        recipe=found["recipe"],
        tp=tp,
        dtype=found["dtype"],
        matched=len(left.taken - left.conflicts.keys() - left.unexpected.keys()),
        left_out=len(found["left_out"]),
        missing=_findings(absent, left.unexpected),
        unexpected=_findings({shown(n): text for n, text in unexpected_shapes.items()},
                             left.missing),
        conflicts=_findings({shown(n): text for n, text in left.conflicts.items()}, ()),
        warnings=(*warnings, *found["warnings"]),
        casts=dict(Counter(f"{source} to {into}" for source, into in found["casts"].values())),
        ties={
            name: other for name, other in found["ties"].items()
            # A module that hangs in two places of the model is no tie of two weights.
            if name.split(".")[-2:] != other.split(".")[-2:]
        },
    )  # fmt: skip


def _findings(details: Mapping[str, str], others: Iterable[str]) -> tuple[Finding, ...]:
    candidates = [names[0] for names in by_template(others).values()]
    return tuple(
        Finding(names, len(group), details[group[0]], tuple(nearest(group[0], candidates)))
        for names, group in sorted(by_template(details).items())
    )
