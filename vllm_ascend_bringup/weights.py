# SPDX-License-Identifier: Apache-2.0
"""The stream of weights: low-precision ones become LazyWeights, their scales disappear.

Works on any iterator of (name, tensor), because a weight's scales are fetched by name from
whichever shard holds them; order and sharding do not matter.
"""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from vllm_ascend_bringup.decode import Decoder, ScaledTensor
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Pairing, scale_grid
from vllm_ascend_bringup.formats.pairing import DecodePlan
from vllm_ascend_bringup.lazy_weight import LazyWeight

# How far ahead of the decoder the kernel is asked to read, and in what steps. A gigabyte covers
# the time one large weight takes to decode and is little next to the page cache of a host.
_READ_AHEAD_BYTES = 1 << 30
_READ_STEP_BYTES = 16 << 20


class ShardReader:
    """Reads single tensors by name, keeping shards open. ``folder`` holds the shards."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: dict[str, Any] = {}

    def read(self, name: str, shard: str) -> torch.Tensor:
        """The tensor ``name`` of ``shard``, memory-mapped."""
        if shard not in self._open:
            self._open[shard] = safe_open(self._folder / shard, framework="pt")
        tensor: torch.Tensor = self._open[shard].get_tensor(name)
        return tensor


def decoding_stream(
    weights: Iterator[tuple[str, torch.Tensor]],
    plan: DecodePlan,
    reader: ShardReader,
    decoder: Decoder,
    dtype: torch.dtype,
    read_ahead: "ReadAhead | None" = None,
) -> Iterator[tuple[str, torch.Tensor]]:
    """Replace each weight of ``plan`` by a LazyWeight of ``dtype``; leave out scales.

    Peak memory: one scale grid. Raises FormatError if a scale holds values it must not.
    """
    for name, tensor in weights:
        if read_ahead is not None:
            read_ahead.consumed(tensor.nbytes)
        if name in plan.scales or name in plan.dropped:
            continue
        pairing = plan.pairings.get(name)
        if pairing is None:
            yield name, tensor
        else:
            scale = reader.read(pairing.scale.name, pairing.scale.shard)
            yield name, LazyWeight.wrap(scaled_tensor(pairing, tensor, scale), decoder, dtype)


def scaled_tensor(pairing: Pairing, codes: torch.Tensor, scale: torch.Tensor) -> ScaledTensor:
    """Join codes ``[..., N, K]`` and scale, both as stored. Raises FormatError for bad scales."""
    grid = scale_grid(pairing, scale)
    codes = codes.view(torch.uint8)
    weight = pairing.weight
    _refuse_lost_blocks(pairing, codes, grid)
    return ScaledTensor(weight.name, weight.shard, codes, grid, pairing.block, pairing.code_format)


def _refuse_lost_blocks(pairing: Pairing, codes: torch.Tensor, grid: torch.Tensor) -> None:
    """A zero scale is right only where every code is zero: anything else is a lost block."""
    bn, bk = pairing.block
    for *lead, row, column in (grid == 0).nonzero().tolist():
        block = codes[tuple(lead)][row * bn : (row + 1) * bn, column * bk : (column + 1) * bk]
        # 0x80 is minus zero, except in the fnuz encodings, where it is NaN.
        magnitude = block if pairing.code_format.endswith("fnuz") else block & 0x7F
        if bool(magnitude.any()):
            raise FormatError(
                f"scale {pairing.scale.name} in {pairing.scale.shard} is zero at "
                f"{[*lead, row, column]}, but the codes it scales are not",
                "a zero scale only over zero codes",
                "download this shard again, or ask for a new export of the checkpoint",
            )


class ReadAhead:
    """Asks the kernel to read the shards ahead of the decoder, so that the disk never waits.

    Use as a context manager around the stream; without ``posix_fadvise`` it does nothing.
    """

    def __init__(self, files: list[Path]) -> None:
        self._files = files
        self._allowed = threading.Semaphore(_READ_AHEAD_BYTES // _READ_STEP_BYTES)
        self._stopped = False
        self._credit = 0
        self._thread = threading.Thread(target=self._run, name="bringup-read-ahead", daemon=True)

    def __enter__(self) -> "ReadAhead":
        if hasattr(os, "posix_fadvise"):
            self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._stopped = True
        self._allowed.release()
        if self._thread.is_alive():
            self._thread.join()

    def consumed(self, nbytes: int) -> None:
        """Tell how many bytes the stream has moved on."""
        self._credit += nbytes
        steps, self._credit = divmod(self._credit, _READ_STEP_BYTES)
        if steps:
            self._allowed.release(steps)

    def _run(self) -> None:
        for file in self._files:
            with file.open("rb") as stream:
                for offset in range(0, file.stat().st_size, _READ_STEP_BYTES):
                    self._allowed.acquire()
                    if self._stopped:
                        return
                    os.posix_fadvise(
                        stream.fileno(), offset, _READ_STEP_BYTES, os.POSIX_FADV_WILLNEED
                    )
