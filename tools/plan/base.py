# SPDX-License-Identifier: Apache-2.0
"""What a plan is made from, and what it says. Values only."""

import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.hardware import DEVICE_STREAMS
from vllm_ascend_bringup.language import Text

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class PlanRequest:
    """What is to be served, and on what; None is for us to choose.

    ``cards``: NPUs of each of ``nodes``. ``max_model_len``: tokens of a request and its answer.
    ``concurrency``: requests at a time. ``decode_cp``: ranks that share the KV cache of a request.
    ``stream_quota``: streams of a virtual device. ``card_memory``: bytes of one NPU.
    ``vllm_ascend``: its version. ``xlite``: its other graphs. ``extra``: more arguments of
    `vllm serve`.
    """

    model: Path
    device: str
    cards: int | None = None
    nodes: int = 1
    tp: int | None = None
    decode_cp: int = 1
    max_model_len: int | None = None
    concurrency: int = 32
    stream_quota: int = DEVICE_STREAMS
    card_memory: int | None = None
    memory_utilization: float = 0.9
    vllm_ascend: str | None = None
    xlite: bool = False
    extra: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """How ranks divide the work. ``cards``: NPUs used on each node.

    ``expert_parallel``: whole experts are divided over ``tp`` x ``dp`` ranks, not each expert.
    """

    tp: int
    pp: int = 1
    dp: int = 1
    decode_cp: int = 1
    nodes: int = 1
    expert_parallel: bool = False

    @property
    def ranks(self) -> int:
        """NPUs altogether."""
        return self.tp * self.pp * self.dp

    @property
    def cards(self) -> int:
        """NPUs of each node."""
        return self.ranks // self.nodes

    @property
    def ray(self) -> bool:
        """Whether Ray starts the ranks: where one model is on several nodes."""
        return self.nodes > 1 and self.tp * self.pp > self.cards


@dataclass(frozen=True)
class Setting:
    """A flag of `vllm serve`, or an environment variable. ``value``: None for a flag without one.

    ``source``: a document or a file of vLLM or vllm-ascend that says so.
    """

    name: str
    value: str | None
    reason: Text
    source: str


@dataclass(frozen=True)
class Part:
    """Some of a card's memory. ``formula``: where the number comes from, with the numbers."""

    id: str
    title: Text
    bytes: int
    formula: Text


@dataclass(frozen=True)
class Memory:
    """Of one card. ``usable_bytes``: what vLLM is allowed. ``free_bytes``: what no part takes;
    below zero what is lacking.
    """

    card_bytes: int
    usable_bytes: int
    parts: tuple[Part, ...]

    @property
    def free_bytes(self) -> int:
        """The card less its parts."""
        return self.card_bytes - sum(part.bytes for part in self.parts)

    def part(self, name: str) -> Part:
        """By its id."""
        return next(part for part in self.parts if part.id == name)

    def to_json(self) -> dict[str, Any]:
        """As a report draws it."""
        return {**asdict(self), "free_bytes": self.free_bytes}


@dataclass(frozen=True)
class Capacity:
    """What the KV cache of all data-parallel ranks holds.

    ``tokens``: altogether, of one request after another. ``requests``: of the planned length at a
    time. ``largest_length``: at which one request still fits, at most what the model allows.
    """

    tokens: int
    requests: int
    largest_length: int


@dataclass(frozen=True)
class Graphs:
    """``mode``: a cudagraph_mode of vLLM's, "NONE" for eager. ``sizes``: of batches, those that
    will be captured. ``explicit``: whether the command has to say them. ``piecewise``: how many
    sizes the mode PIECEWISE could keep, by the formula of vllm-ascend before 0.21.
    """

    mode: str
    sizes: tuple[int, ...]
    explicit: bool
    reason: Text
    source: str
    piecewise: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """Lines of shell for something beside the serve command."""

    id: str
    title: Text
    lines: tuple[str, ...]
    note: Text | None = None


@dataclass(frozen=True)
class Plan:
    """Everything ``bringup plan`` prints.

    ``commands``: of `vllm serve`, one for each node that needs its own; the same flags first.
    ``defaults``: what is left to vLLM's own choice, and comes out as said. ``advice``: what to do
    if it does not fit. ``notes``: what else to know.
    """

    model: str
    device: str
    vllm_ascend: str
    weights: Text
    layout: Layout
    max_model_len: int
    concurrency: int
    fits: bool
    memory: Memory
    capacity: Capacity
    graphs: Graphs
    flags: tuple[Setting, ...]
    environment: tuple[Setting, ...]
    defaults: tuple[Setting, ...]
    commands: tuple[tuple[str, ...], ...]
    recipes: tuple[Recipe, ...]
    advice: tuple[Text, ...]
    notes: tuple[Text, ...]

    def command(self, node: int = 0) -> str:
        """Of one node, for a shell. Variables in it are those that its environment sets."""
        return " ".join(map(shell_word, self.commands[node]))

    def to_json(self) -> dict[str, Any]:
        """A JSON object; texts in both languages, as ``{"en": ..., "zh": ...}``."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "plan",
            **asdict(self),
            "memory": self.memory.to_json(),
            "commands": [self.command(node) for node in range(len(self.commands))],
        }


def shell_word(word: str) -> str:
    """Quoted where a shell needs it; ``$NAME`` stays a variable."""
    return f'"{word}"' if word.startswith("$") else shlex.quote(word)
