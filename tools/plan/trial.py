# SPDX-License-Identifier: Apache-2.0
"""A layout with what follows from it, and which of several is chosen."""

from collections.abc import Callable
from dataclasses import dataclass

from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.tools.plan.base import Capacity, Graphs, Layout, Memory, PlanRequest
from vllm_ascend_bringup.tools.plan.kv_cache import KvCache
from vllm_ascend_bringup.tools.plan.layout import is_clean
from vllm_ascend_bringup.tools.plan.memory import BATCHED_TOKENS, memory
from vllm_ascend_bringup.tools.plan.served import Served

# Tokens of a context that is worth a server, where nobody has asked for a length.
_SHORTEST = 4096


@dataclass(frozen=True)
class Trial:
    """One layout with all that follows from it, for a context of any length."""

    served: Served
    layout: Layout
    request: PlanRequest
    graphs: Graphs
    cache: KvCache

    def memory(self, length: int) -> Memory:
        """Of one card."""
        card = self.request.card_memory or DEPLOYMENTS[self.request.device].memory
        return memory(
            self.served, self.layout, self.cache, self.graphs, self.request.device, card=card,
            utilization=self.request.memory_utilization, length=length,
            concurrency=self.request.concurrency,
        )  # fmt: skip

    def requests(self, length: int) -> int:
        """Of this length at a time, on all data-parallel ranks."""
        each = self.cache.request_bytes(length, BATCHED_TOKENS)
        return self.memory(length).part("kv_cache").bytes // each * self.layout.dp if each else 0

    def fits(self, length: int) -> bool:
        """Whether vLLM starts: one request has to fit."""
        return self.requests(length) > 0

    def largest(self, limit: int) -> int:
        """The longest context that fits, in whole blocks, or ``limit``; 0 if none does."""
        if self.fits(limit):
            return limit
        return self.cache.block * _largest(
            limit // self.cache.block, lambda blocks: self.fits(blocks * self.cache.block)
        )

    def capacity(self, length: int, limit: int) -> Capacity:
        """``limit``: of the model."""
        each = self.cache.request_bytes(length, BATCHED_TOKENS)
        blocks = self.memory(length).part("kv_cache").bytes * length // (each or 1)
        tokens = blocks // self.cache.block * self.cache.block * self.layout.dp
        return Capacity(tokens, self.requests(length), self.largest(limit))


def choose(trials: list[Trial], asked: int | None, usual: int) -> tuple[Trial, int]:
    """The first layout that fits ``asked`` tokens; without that, a clean one with less than the
    ``usual`` context rather than one that is not clean. If none fits, that which lacks least.
    """
    clean = [t for t in trials if is_clean(t.served, t.layout.tp)]
    for group in (trials,) if asked else (clean, trials):
        if found := next((t for t in group if t.fits(asked or usual)), None):
            return found, asked or usual
        best = max(group, key=lambda t: t.largest(usual), default=None)
        if not asked and best and best.largest(usual) >= min(usual, _SHORTEST):
            return best, best.largest(usual)
    least = max(trials, key=lambda t: t.memory(asked or usual).free_bytes)
    return least, asked or least.largest(usual) or usual


def _largest(high: int, good: Callable[[int], bool]) -> int:
    """The largest number up to ``high`` that is good, if all below it are; 0 if none is."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if good(middle) else (low, middle - 1)
    return low
