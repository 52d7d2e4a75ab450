# SPDX-License-Identifier: Apache-2.0
"""Which graphs a device can capture, and at which batch sizes.

A piecewise graph of one batch size takes a stream per piece, and collectives take more; a graph
of the whole model takes about one. vllm-ascend counted until 0.20.2rc1 (update_aclgraph_sizes in
vllm_ascend/utils.py) and has left it to the driver since. What nobody can count from here: streams
that operators take, and event ids.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from vllm_ascend_bringup.hardware import DEVICE_STREAMS, RESERVED_STREAMS

PIECEWISE, FULL_AND_PIECEWISE = "PIECEWISE", "FULL_AND_PIECEWISE"
FULL_DECODE_ONLY, EAGER = "FULL_DECODE_ONLY", "NONE"
# Streams that each kind of context parallelism, and each group of ranks, was allowed for.
_CONTEXT_PARALLEL, _GROUP = 100, 40
# vLLM's candidates end here; vllm-ascend's at max_num_seqs, if that is less.
_LARGEST = 512


@dataclass(frozen=True)
class Load:
    """What takes streams. ``layers``: hidden layers; ``draft_layers``: of a draft model, 0 if none.

    ``aiv``: HCCL_OP_EXPANSION_MODE=AIV, by which the vector cores issue collectives.
    ``overlap_shared_expert``: multistream_overlap_shared_expert.
    """

    layers: int
    draft_layers: int = 0
    tp: int = 1
    dp: int = 1
    prefill_cp: int = 1
    decode_cp: int = 1
    moe: bool = False
    expert_parallel: bool = False
    overlap_shared_expert: bool = False
    aiv: bool = False

    @property
    def graph(self) -> int:
        """Pieces of one batch size: a layer each, and what is around them."""
        return self.layers + 1 + (self.draft_layers + 1 if self.draft_layers else 0)

    @property
    def groups(self) -> int:
        """Of ranks that communicate; vllm-ascend did not count those of a pipeline."""
        return (self.dp > 1) + (self.tp > 1)


@dataclass(frozen=True)
class Budget:
    """``kept``: floor(``streams`` / ``graph`` / ``divisor``), as many sizes as fit."""

    streams: int
    graph: int
    divisor: int

    @property
    def kept(self) -> int:
        """Never negative."""
        return max(0, math.floor(self.streams / self.graph / self.divisor))


def usable_streams(quota: int = DEVICE_STREAMS) -> int:
    """Of a device, or of the share of it that a virtual one has, less as large a reserve."""
    return quota * (DEVICE_STREAMS - RESERVED_STREAMS) // DEVICE_STREAMS


def piecewise_budget(load: Load, mode: str, sizes: int, quota: int = DEVICE_STREAMS) -> Budget:
    """vllm-ascend's own formula, for ``sizes`` candidates in a mode with piecewise graphs."""
    streams = usable_streams(quota)
    if mode == FULL_AND_PIECEWISE:
        streams = max(0, streams - sizes)
    if load.aiv:
        divisor = 1 + load.groups + load.expert_parallel + load.overlap_shared_expert
        if load.moe:
            divisor += load.dp > 1
        else:
            streams -= divisor * load.graph
        return Budget(streams, load.graph, divisor)
    streams -= _CONTEXT_PARALLEL * ((load.prefill_cp > 1) + (load.decode_cp > 1))
    return Budget(streams - _GROUP * load.groups, load.graph, 1 + 2 * load.groups)


def full_budget(load: Load, quota: int) -> Budget:
    """The same for graphs of the whole model, one per size. A rule of thumb of this project."""
    streams = usable_streams(quota) - (0 if load.aiv else _GROUP * load.groups)
    return Budget(streams, 1, 1 + load.groups if load.aiv else 1 + 2 * load.groups)


def candidates(largest: int = _LARGEST) -> tuple[int, ...]:
    """The batch sizes vLLM would capture up to ``largest`` (config/vllm.py, _set_cudagraph_sizes).

    ``largest`` itself is one of them only if it is on the grid.
    """
    sizes = [1, 2, 4, *range(8, 256, 8), *range(256, _LARGEST + 1, 16)]
    return tuple(size for size in sizes if size <= largest)


def thinned(sizes: Sequence[int], kept: int) -> tuple[int, ...]:
    """``kept`` of the sizes at even distances, the ends among them; the largest if only one."""
    if kept >= len(sizes):
        return tuple(sizes)
    if kept <= 1:
        return (sizes[-1],)
    step = (len(sizes) - 1) / (kept - 1)
    places = [round(number * step) for number in range(kept)]
    places[0], places[-1] = 0, len(sizes) - 1
    return tuple(sizes[place] for place in places)


def powers_up_to(concurrency: int) -> tuple[int, ...]:
    """1, 2, 4 ... and ``concurrency``, as the 310P's guide chooses on one rank."""
    return (*(1 << n for n in range((concurrency - 1).bit_length())), concurrency)


def few_up_to(concurrency: int, graphs: int) -> tuple[int, ...]:
    """``graphs`` sizes by halving down from ``concurrency``: 16 and 32, for 2 of 32."""
    halves = (-(-concurrency // (1 << n)) for n in range(graphs))
    return tuple(sorted(set(halves)))
