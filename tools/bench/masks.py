# SPDX-License-Identifier: Apache-2.0
"""Masks of the 310P: what a chunked prefill takes, and upstream's algorithm beside it.

Bytes are counted, of every tensor while it lives; so they are the same on every machine.
"""

import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.attention.step import Step

# Of a step: four requests, each the last chunk of its context.
CHUNK, TOKENS = 2048, 8192
_CPU = torch.device("cpu")
_HALF = 2


class PeakBytes(TorchDispatchMode):
    """The most that tensors made under it held at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), named: Any = None
    ) -> Any:
        made = function(*arguments, **(named or {}))
        if isinstance(made, torch.Tensor):
            self._count(made.untyped_storage())
        return made

    def _count(self, storage: Any) -> None:
        address, size = storage.data_ptr(), storage.nbytes()
        if address in self._seen or not size:
            return
        self._seen.add(address)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._gone, address, size)

    def _gone(self, address: int, size: int) -> None:
        self._seen.discard(address)
        self.live -= size


@dataclass(frozen=True)
class Cost:
    """Of one step: bytes held at most, and the time of its first layer."""

    peak: int
    seconds: float


def cost(run: Callable[[], None]) -> Cost:
    """Peak of one run, time of another."""
    with PeakBytes() as bytes_:
        run()
    started = time.perf_counter()
    run()
    return Cost(bytes_.peak, time.perf_counter() - started)


def ours(context: int) -> None:
    """The masks of a prefill of one chunk, and of four chunks at the end of the context."""
    masks = LegacyMasks(torch.float16, _CPU, TOKENS)
    masks.prompt(min(CHUNK, context))
    requests = max(1, min(TOKENS // CHUNK, context // CHUNK))
    step = Step([CHUNK] * requests, [context] * requests, True, masks)
    for _ in step.calls(None):
        pass


def upstream(context: int) -> None:
    """What vllm-ascend 0.26.0rc1 makes for the same (_310p/attention/attention_mask.py)."""
    requests = max(1, min(TOKENS // CHUNK, context // CHUNK))
    positions = torch.arange(context - CHUNK, context).repeat(requests)
    prompt = _in_fractals(_square(context))
    rows = _in_fractals(_square(context).index_select(0, positions))
    del prompt, rows


def _square(side: int) -> torch.Tensor:
    visible = torch.ones(side, side, dtype=torch.bool).tril_()
    hidden = ~visible
    return torch.zeros(side, side, dtype=torch.float16).masked_fill_(hidden, float("-inf"))


def _in_fractals(mask: torch.Tensor) -> torch.Tensor:
    rows, columns = mask.shape
    padded = torch.nn.functional.pad(mask, (0, -columns % 16, 0, -rows % 16))
    return padded.view(1, padded.shape[0], -1, 16).transpose(1, 2).contiguous()


def upstream_peak(context: int) -> int:
    """The same, computed: the prompt's mask stays while the other square and its rows are made."""
    requests = max(1, min(TOKENS // CHUNK, context // CHUNK))
    square, rows = context * context, requests * CHUNK * context
    making = square * _HALF + 2 * square  # a square, and two planes of bool
    copying = square * _HALF + 2 * rows * _HALF  # the source stays; its rows, and their fractals
    return square * _HALF + max(making, copying)
