# SPDX-License-Identifier: Apache-2.0
"""The stream of weights: low-precision ones become LazyWeights, their scales disappear.

Works on any iterator of (name, tensor), because a weight's scales are fetched by name from
whichever shard holds them; order and sharding do not matter.
"""

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from vllm_ascend_bringup.decode import Decoder, ScaledTensor
from vllm_ascend_bringup.errors import CheckpointError, FormatError
from vllm_ascend_bringup.formats.base import Pairing
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
        try:
            if shard not in self._open:
                self._open[shard] = safe_open(self._folder / shard, framework="pt")
            tensor: torch.Tensor = self._open[shard].get_tensor(name)
        except SafetensorError as error:
            raise CheckpointError(
                f"shard {shard}: {name} cannot be read ({error})",
                "a shard that the safetensors library reads",
                "download this shard again",
            ) from None
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
            yield from lazy_weights(pairing, tensor, reader, decoder, dtype)


def lazy_weights(
    pairing: Pairing,
    codes: torch.Tensor,
    reader: ShardReader,
    decoder: Decoder,
    dtype: torch.dtype,
) -> Iterator[tuple[str, torch.Tensor]]:
    """The weights that ``codes`` as stored and their partners make, by name; usually one.

    Raises FormatError if a scale holds values it must not.
    """
    for name, source in scaled_tensors(pairing, codes, reader):
        lazy = LazyWeight.wrap(source, decoder, dtype)
        yield name, lazy.transpose(-1, -2) if pairing.layout.turned else lazy


def scaled_tensors(
    pairing: Pairing, codes: torch.Tensor, reader: ShardReader
) -> Iterator[tuple[str, ScaledTensor]]:
    """Join codes and partners, all as stored. Raises FormatError for bad scales."""
    stored, format_ = pairing.stored, pairing.format
    partners = {role: reader.read(t.name, t.shard) for role, t in stored.partners.items()}
    pairing = format_.resolve(pairing, partners)
    grid, zero = format_.grid(pairing, partners), format_.zero(pairing, partners)
    layout = pairing.layout
    whole = ScaledTensor(
        stored.name, stored.codes.shard, format_.codes(pairing, codes), grid, layout.block,
        layout.code_format, layout.shape[-1], zero,
        scale_table=format_.scale_table(pairing, partners),
    )  # fmt: skip
    smallest, largest = whole.scale_range()
    if not math.isfinite(largest):
        raise FormatError(
            f"scales of {stored.codes.name} in {stored.codes.shard} times or divided by their "
            "global scale exceed float32",
            "finite products",
            "download this shard again, or ask for a new export of the checkpoint",
        )
    if smallest == 0:
        _refuse_lost_blocks(whole, stored.scale.name)
    whole = replace(whole, largest_scale=largest)
    parts = format_.parts(pairing)
    if parts is None:
        yield stored.name, whole
    else:
        for name, rows in parts.items():
            yield name, replace(whole, name=name, rows=rows)


def _refuse_lost_blocks(source: ScaledTensor, scale: str) -> None:
    """A zero scale is right only where every code is zero: anything else is a lost block."""
    for index in product(*map(range, source.scale.shape[:-2])):
        zero_scale = source.scales_at(index) == 0
        lost = zero_scale & _blocks_with_values(source, index) if bool(zero_scale.any()) else None
        if lost is not None and bool(lost.any()):
            raise FormatError(
                f"scale {scale} of {source.name} in {source.shard} is zero at "
                f"{[*index, *map(int, lost.nonzero()[0])]}, but the codes it scales are not",
                "a zero scale only over zero codes",
                "download this shard again, or ask for a new export of the checkpoint",
            )


def _blocks_with_values(source: ScaledTensor, index: tuple[int, ...]) -> torch.Tensor:
    """Which blocks of one matrix hold a code that does not mean zero: bool ``[R, C]``."""
    codes, (bn, bk) = source.codes[index], source.block
    if source.packed:
        codes = torch.stack((codes & 15, codes >> 4), -1).flatten(-2)
    codes = codes[:, : source.shape[-1]]
    N, K = codes.shape
    R, C = source.scale.shape[-2:]
    if source.zero is not None:
        zero = source.zero[index].repeat_interleave(bn, 0).repeat_interleave(bk, 1)
        values = codes != zero[:N, :K]
    elif source.code_format.startswith("int"):
        values = codes != (8 if source.packed else 128)
    elif source.code_format.endswith("fnuz"):
        values = codes != 0  # minus zero is NaN there
    else:
        values = (codes & (0x7 if source.packed else 0x7F)) != 0
    padded = torch.nn.functional.pad(values, (0, C * bk - K, 0, R * bn - N))
    return padded.view(R, bn, C, bk).any(3).any(1)


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
