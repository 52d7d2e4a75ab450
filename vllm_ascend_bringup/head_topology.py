# SPDX-License-Identifier: Apache-2.0
"""Which attention heads a tensor-parallel rank computes, and which rows of weights they are.

The rules are those of vLLM's QKVParallelLinear (vllm/model_executor/layers/linear.py): query
heads are divided over the ranks; KV heads too, as long as there are enough, and else each is
replicated on the same number of ranks, next to each other.
"""

from dataclasses import dataclass

from vllm_ascend_bringup.errors import SettingsError

# Sizes that an error names; no machine has more devices in one tensor-parallel group.
_LARGEST_TP = 128


@dataclass(frozen=True)
class HeadTopology:
    """The heads of rank ``rank`` of ``tp``; made by ``head_topology``.

    query_heads, kv_heads: of the whole model. head_size: columns of a head. padding: heads that
    the last ranks compute beyond the model's own, as zeros.
    """

    query_heads: int
    kv_heads: int
    head_size: int
    tp: int
    rank: int
    padding: int = 0

    @property
    def kv_replicas(self) -> int:
        """On how many ranks each KV head is."""
        return 1 if self.padding else replicas(self.kv_heads, self.tp)

    @property
    def query_heads_here(self) -> range:
        """This rank's query heads; those from ``query_heads`` on are padding."""
        return _part(self.query_heads + self.padding, self.tp, self.rank)

    @property
    def kv_heads_here(self) -> range:
        """This rank's KV heads: those that its query heads attend to."""
        if self.padding:  # as many as query heads
            return self.query_heads_here
        return _part(self.kv_heads, self.tp // self.kv_replicas, self.rank // self.kv_replicas)

    @property
    def query_rows(self) -> slice:
        """Rows of the stored ``[query_heads * head_size, ...]`` that are this rank's.

        Also of the weight of a norm over the whole query projection. Padding has no rows.
        """
        return self._rows(self.query_heads_here, self.query_heads)

    @property
    def kv_rows(self) -> slice:
        """The same of the stored K, of V, and of the weight of a norm over the whole of K."""
        return self._rows(self.kv_heads_here, self.kv_heads)

    def _rows(self, heads: range, stored: int) -> slice:
        first, last = min(heads.start, stored), min(heads.stop, stored)
        return slice(first * self.head_size, last * self.head_size)


def head_topology(
    query_heads: int, kv_heads: int, head_size: int, tp: int, rank: int, *, pad: bool = False
) -> HeadTopology:
    """The topology of one rank. ``pad``: heads may be added, as vLLM does for vision towers.

    Raises SettingsError, with the sizes that are possible, if the heads cannot be divided so.
    """
    if min(query_heads, kv_heads, head_size, tp) < 1 or query_heads % kv_heads or rank < 0:
        raise SettingsError(
            f"{query_heads} query heads, {kv_heads} KV heads of size {head_size}, rank {rank} of "
            f"{tp}",
            "positive numbers, query heads a multiple of the KV heads",
            "correct the numbers of heads in config.json",
        )
    if rank >= tp:
        raise SettingsError(f"rank {rank} of {tp}", f"a rank below {tp}", "correct the rank")
    if why := misfit(query_heads, kv_heads, tp, pad=pad):
        sizes = ", ".join(map(str, clean_sizes(query_heads, kv_heads, pad=pad)))
        raise SettingsError(why, f"a tensor-parallel size of {sizes}", "choose one of these sizes")
    return HeadTopology(query_heads, kv_heads, head_size, tp, rank, -query_heads % tp if pad else 0)


def replicas(kv_heads: int, tp: int) -> int:
    """On how many of ``tp`` ranks each KV head is."""
    return max(1, tp // kv_heads)


def misfit(query_heads: int, kv_heads: int, tp: int, *, pad: bool = False) -> str | None:
    """Why the heads cannot be divided over ``tp`` ranks; None if they can."""
    if query_heads % tp:
        if pad and kv_heads == query_heads:
            return None
        what = " (with KV heads of their own they cannot be padded)" if pad else ""
        return f"{query_heads} query heads do not divide by {tp}{what}"
    if kv_heads % tp and tp % kv_heads:
        return f"{kv_heads} KV heads neither divide by {tp} nor into it"
    return None


def clean_sizes(query_heads: int, kv_heads: int, *, pad: bool = False) -> list[int]:
    """The tensor-parallel sizes, up to 128, over which the heads can be divided."""
    sizes = range(1, _LARGEST_TP + 1)
    return [tp for tp in sizes if misfit(query_heads, kv_heads, tp, pad=pad) is None]


def _part(heads: int, parts: int, which: int) -> range:
    size = heads // parts
    return range(which * size, (which + 1) * size)
