# SPDX-License-Identifier: Apache-2.0
"""Write one shard of a conversion, or compare one with what it should be.

Tensors go through the loader's own LazyWeight and Decoder in pieces of a few megabytes: decode
into a buffer that stays in the processor's cache, write it at its place, take the next. Memory is
one buffer per thread, one scale grid, and the pages of the source that are being read.
"""

import math
import mmap
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby, product
from pathlib import Path

import torch
import xxhash

from vllm_ascend_bringup.conversion.plan import Output, OutputShard
from vllm_ascend_bringup.decode import Decoder, libc
from vllm_ascend_bringup.errors import CheckpointError, FormatError
from vllm_ascend_bringup.weights import ShardReader, lazy_weights

TORCH_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16}
# Elements decoded at a time by one thread: long enough to hide the cost of the calls around the
# kernel, short enough for its result to be in the cache when it is written.
_PIECE_ELEMENTS = 1 << 20
# Bytes hashed at a time; the checksum of a file is the hash of its segments' hashes, so that
# threads can share the work.
_SEGMENT_BYTES = 64 << 20
_HASH_READ_BYTES = 1 << 20
_MADV_DONTNEED = 4  # bits/mman-linux.h

# Called with a number of bytes done, from any thread.
Progress = Callable[[int], None]


@dataclass(frozen=True)
class _Piece:
    """Part of an output: what to take of it, and its byte offset in the file."""

    tensor: torch.Tensor
    output: Output
    at: int
    nbytes: int


class ShardWriter:
    """Writes and compares shards of the checkpoint in ``source`` with ``threads`` threads.

    Use as a context manager. ``progress`` is told of output bytes; it may be replaced.
    """

    def __init__(self, source: Path, threads: int) -> None:
        self.progress: Progress = lambda nbytes: None
        self._reader = ShardReader(source)
        self._threads = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bringup-convert")
        self._decoder = Decoder(1)  # each of our threads decodes its own pieces
        self._local = threading.local()

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown(cancel_futures=True)
        self._decoder.__exit__()

    @property
    def nan_weights(self) -> frozenset[str]:
        """Weights written so far that hold NaN codes, which stay NaN."""
        return frozenset(self._decoder.counts.nan_weights)

    def write(self, shard: OutputShard, folder: Path) -> str:
        """Write ``shard`` into ``folder`` under its name, whole or not at all; its checksum.

        Raises FormatError for bad scales and values that overflow.
        """
        file = folder / shard.file
        partial = file.with_name(file.name + ".partial")
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o644)
        try:
            os.pwrite(descriptor, shard.header, 0)
            self._each_piece(shard, lambda piece: self._write_piece(descriptor, piece))
            checksum = self._checksum(descriptor, shard.nbytes)
        finally:
            os.close(descriptor)
        partial.rename(file)
        return checksum

    def checksum(self, file: Path) -> str:
        """Checksum of a file, as ``write`` returns it."""
        with file.open("rb") as stream:
            return self._checksum(stream.fileno(), file.stat().st_size)

    def compare(self, shard: OutputShard, folder: Path) -> None:
        """Decode ``shard`` again and compare it with its file, byte for byte.

        Raises CheckpointError naming the first tensor that differs.
        """
        file = folder / shard.file
        size = file.stat().st_size if file.exists() else -1
        if size != shard.nbytes:
            raise _differs(shard.file, f"{size} bytes long, {shard.nbytes} expected")
        with file.open("rb") as stream:
            if stream.read(len(shard.header)) != shard.header:
                raise _differs(shard.file, "its header is another one")
            descriptor = stream.fileno()
            self._each_piece(shard, lambda piece: self._compare_piece(shard, descriptor, piece))

    def _each_piece(self, shard: OutputShard, handle: Callable[[_Piece], None]) -> None:
        """Hand every piece to ``handle`` on the pool. The first error stops the rest."""
        waiting: list[Future[None]] = []
        at = len(shard.header)
        failed = threading.Event()

        def run(piece: _Piece) -> None:
            if not failed.is_set():
                try:
                    handle(piece)
                except BaseException:
                    failed.set()
                    raise

        try:
            for _, group in groupby(shard.outputs, key=lambda output: output.source.name):
                outputs = list(group)
                source = outputs[0].source
                stored = self._reader.read(source.name, source.shard)
                for tensor, output in zip(self._tensors(stored, outputs), outputs, strict=True):
                    for piece in _pieces(tensor, output, at):
                        waiting.append(self._pool.submit(run, piece))
                        if len(waiting) > 4 * self._threads:
                            waiting.pop(0).result()
                    at += output.nbytes
                while waiting:
                    waiting.pop(0).result()
                _forget(stored)
        finally:
            for future in waiting:
                future.cancel()

    def _tensors(self, stored: torch.Tensor, outputs: list[Output]) -> Iterator[torch.Tensor]:
        """The tensors to write, lazy where they are decoded, in the order of ``outputs``."""
        pairing = outputs[0].pairing
        if pairing is None:
            yield stored
            return
        dtype = TORCH_DTYPES[outputs[0].dtype]
        made = dict(lazy_weights(pairing, stored, self._reader, self._decoder, dtype))
        for output in outputs:
            yield made[output.name]

    def _write_piece(self, descriptor: int, piece: _Piece) -> None:
        _write_all(descriptor, self._bytes_of(piece), piece.at)
        self.progress(piece.nbytes)

    def _compare_piece(self, shard: OutputShard, descriptor: int, piece: _Piece) -> None:
        expected = self._bytes_of(piece)
        if os.pread(descriptor, piece.nbytes, piece.at) != bytes(expected):
            raise _differs(shard.file, f"tensor {_tensor_at(shard, piece.at)} differs")
        self.progress(piece.nbytes)

    def _bytes_of(self, piece: _Piece) -> memoryview:
        """The piece decoded or cast into this thread's buffer, or as it lies in the source."""
        tensor, dtype = piece.tensor, piece.output.dtype
        if piece.output.pairing is None and dtype == piece.output.source.dtype:
            return _memory(tensor)
        size = tensor.numel() * 2
        buffer: torch.Tensor | None = getattr(self._local, "buffer", None)
        if buffer is None or buffer.numel() < size:
            buffer = self._local.buffer = torch.empty(size, dtype=torch.uint8)
        out = buffer[:size].view(TORCH_DTYPES[dtype]).view(tensor.shape)
        out.copy_(tensor)
        if piece.output.pairing is None:
            _check_cast(piece.output, tensor, out)
        return _memory(out)

    def _checksum(self, descriptor: int, size: int) -> str:
        def segment(start: int) -> bytes:
            digest = xxhash.xxh3_128()
            for at in range(start, min(start + _SEGMENT_BYTES, size), _HASH_READ_BYTES):
                digest.update(os.pread(descriptor, min(_HASH_READ_BYTES, size - at), at))
            return digest.digest()

        hashes = self._pool.map(segment, range(0, size, _SEGMENT_BYTES))
        return xxhash.xxh3_128(b"".join(hashes)).hexdigest()


def _pieces(tensor: torch.Tensor, output: Output, at: int) -> Iterator[_Piece]:
    """Cut a tensor into runs of rows that are contiguous in the file, in its order."""
    itemsize = output.nbytes // max(1, math.prod(output.shape))
    matrices = [tensor]
    if tensor.dim() > 2:
        matrices = [tensor[index] for index in product(*map(range, tensor.shape[:-2]))]
    for matrix in matrices:
        rows = matrix.shape[0] if matrix.dim() else 1
        step = max(1, _PIECE_ELEMENTS // max(1, matrix.numel() // max(1, rows)))
        for start in range(0, rows, step):
            part = matrix[start : start + step] if matrix.dim() else matrix
            nbytes = part.numel() * itemsize
            yield _Piece(part, output, at, nbytes)
            at += nbytes


def _memory(tensor: torch.Tensor) -> memoryview:
    """The bytes of a contiguous tensor, without a copy."""
    return tensor.reshape(-1).view(torch.uint8).numpy().data


def _check_cast(output: Output, stored: torch.Tensor, cast: torch.Tensor) -> None:
    overflows = torch.isinf(cast) & ~torch.isinf(stored)
    if bool(overflows.any()):
        raise FormatError(
            f"{int(overflows.sum())} values of {output.name} in {output.source.shard} exceed "
            f"{output.dtype}",
            f"values up to {torch.finfo(cast.dtype).max:g}",
            "convert with --dtype bfloat16",
        )


def _write_all(descriptor: int, data: memoryview, at: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, at)
        data, at = data[written:], at + written


def _forget(stored: torch.Tensor) -> None:
    """Give the pages of a memory-mapped tensor back, so that memory does not grow with the file.

    They stay in the page cache. A page shared with a neighbour is read again if need be.
    """
    if sys.platform != "linux" or stored.nbytes == 0:
        return
    page = mmap.PAGESIZE
    start = stored.data_ptr() // page * page
    libc().madvise(start, stored.data_ptr() + stored.nbytes - start, _MADV_DONTNEED)


def _tensor_at(shard: OutputShard, offset: int) -> str:
    at = len(shard.header)
    for output in shard.outputs:
        at += output.nbytes
        if offset < at:
            return output.name
    return "?"


def _differs(file: str, found: str) -> CheckpointError:
    return CheckpointError(
        f"{file}: {found}",
        "what converting the source gives",
        "delete the converted checkpoint and convert again; if it recurs, check the disk",
    )
