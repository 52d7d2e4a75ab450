# SPDX-License-Identifier: Apache-2.0
"""Decode slices of low-precision weights into tensors, on a pool of threads.

One Decoder lives for one load. It owns the threads, the staging buffers for parameters on another
device, and the counts that the load reports. On request such parameters get codes and scales, and
are decoded where they are.
"""

import ctypes
import mmap
import os
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import cache
from itertools import pairwise, product

import torch

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.kernels.fp4_dequant import fp4_dequant
from vllm_ascend_bringup.kernels.fp8_dequant import CODE_FORMATS, fp8_dequant
from vllm_ascend_bringup.kernels.int_dequant import int_dequant

# Below this a weight is decoded by the calling thread: handing it over costs more.
_MIN_ELEMENTS_PER_TASK = 1 << 16
# Bytes of one of the two staging buffers. Large enough that a copy to a device runs at full
# speed, small against any weight that matters.
STAGING_BYTES = 64 << 20
# Bytes of codes that are decoded on a device at a time. Where there is no Triton, an index and
# three float32 are made of each, which take twenty times as much.
DEVICE_BYTES = 8 << 20
# Blocks with fewer rows or columns leave a device's tiles empty, unless they hold whole rows.
_DEVICE_BLOCK = 64

_MADV_POPULATE_WRITE = 23  # linux/mman.h, since Linux 5.14

# Two codes in a byte, and the bits of an integer code.
_PACKED = frozenset({"e2m1", "int4"})
_INT_BITS = {"int4": 4, "int8": 8}
# Largest magnitude of a decoded code, before the scale.
_LARGEST = {**CODE_FORMATS, "e2m1": 6.0, "int4": 15.0, "int8": 255.0}

Slices = tuple[slice, ...]


@dataclass(frozen=True)
class ScaledTensor:
    """A weight as it is on disk.

    codes: uint8 ``[..., N, bytes of a row]``, usually memory-mapped; a byte is one code of
    ``code_format``, or two (e2m1, int4; the low four bits first). scale: float32 ``[..., R, C]``,
    the grid; or uint8 codes whose values ``scale_table`` gives, float32 ``[..., 256]`` (not of
    integer codes). block: (bn, bk). columns: K, where it is not what the codes' bytes make. zero:
    uint8 ``[..., R, C]`` of integer codes, or None. rows: if given, the weight is these rows of
    each matrix of ``[E, N, K]``, one below the other. largest_scale: if it is known already. name
    and shard are for messages.
    """

    name: str
    shard: str
    codes: torch.Tensor
    scale: torch.Tensor
    block: tuple[int, int]
    code_format: str = "e4m3fn"
    columns: int | None = None
    zero: torch.Tensor | None = None
    rows: tuple[int, int] | None = None
    largest_scale: float | None = None
    scale_table: torch.Tensor | None = None

    @property
    def packed(self) -> bool:
        """Whether a byte holds two codes."""
        return self.code_format in _PACKED

    @property
    def shape(self) -> tuple[int, ...]:
        """``[..., N, K]``, decoded."""
        *rows, nbytes = self.codes.shape
        columns = self.columns or nbytes * (2 if self.packed else 1)
        if self.rows is not None:
            return (rows[0] * (self.rows[1] - self.rows[0]), columns)
        return (*rows, columns)

    def scales_at(self, index: tuple[int, ...]) -> torch.Tensor:
        """The grid of one matrix, float32 ``[R, C]``."""
        if self.scale_table is None:
            return self.scale[index]
        return self.scale_table[index][self.scale[index].to(torch.int64)]

    def may_exceed(self, dtype: torch.dtype) -> bool:
        """Whether a value could be infinite in ``dtype``, going by the largest scale.

        Of all codes only e5m2's hold infinities.
        """
        limit = torch.finfo(dtype).max
        return self.code_format == "e5m2" or self.largest() * _LARGEST[self.code_format] > limit

    def largest(self) -> float:
        """The largest scale."""
        return self.scale_range()[1] if self.largest_scale is None else self.largest_scale

    def scale_range(self) -> tuple[float, float]:
        """Smallest and largest scale."""
        if self.scale_table is None:
            low, high = torch.aminmax(self.scale)
            return float(low), float(high)
        # Matrix by matrix: torch reduces a whole tensor many times as fast as along a dimension.
        ends = torch.tensor([
            [int(end) for end in torch.aminmax(codes)]
            for codes in self.scale.reshape(-1, *self.scale.shape[-2:])
        ])  # fmt: skip
        values = self.scale_table.reshape(-1, 256).gather(1, ends)  # it rises
        return float(values.min()), float(values.max())


@dataclass(frozen=True)
class _Matrix:
    """A rectangle of one matrix of a weight, and where it goes.

    codes: uint8 ``[n, bytes]``. scale, scale_table, zero: the whole matrix's. offset: (row,
    column) of the rectangle in the matrix. out: ``[n, k]``.
    """

    source: ScaledTensor
    codes: torch.Tensor
    scale: torch.Tensor
    scale_table: torch.Tensor | None
    zero: torch.Tensor | None
    offset: tuple[int, int]
    out: torch.Tensor

    def rows(self, start: int, stop: int, out: torch.Tensor) -> "_Matrix":
        """These rows of it, to go into ``out``."""
        row, column = self.offset
        return replace(self, codes=self.codes[start:stop], offset=(row + start, column), out=out)

    def decode(self) -> bool:
        """Run the kernel; returns whether a NaN code was met."""
        source = self.source
        if source.code_format in _INT_BITS:
            int_dequant(
                self.codes, self.scale, self.zero, self.out, bits=_INT_BITS[source.code_format],
                block=source.block, offset=self.offset,
            )  # fmt: skip
            return False
        if source.packed:
            fp4_dequant(
                self.codes, self.scale, self.out, block=source.block, offset=self.offset,
                scale_table=self.scale_table,
            )  # fmt: skip
            return False
        return fp8_dequant(
            self.codes, self.scale, self.out, block=source.block, offset=self.offset,
            code_format=source.code_format, scale_table=self.scale_table,
        )  # fmt: skip


@dataclass
class DecodeCounts:
    """What one load did. ``materialized``: operations that were not lazy, by name.

    ``copied``: bytes that went to another device. ``on_device``: weights decoded there.
    """

    elements: int = 0
    weights: set[str] = field(default_factory=set)
    nan_weights: set[str] = field(default_factory=set)
    materialized: dict[str, int] = field(default_factory=dict)
    copied: int = 0
    on_device: set[str] = field(default_factory=set)


class Decoder:
    """Threads, staging buffers and counts of one load. Use as a context manager.

    ``threads``: decode threads. ``on_device``: decode there what is fp8 and goes to another device.
    ``force_staging``: treat every parameter as one on another device, which is how both ways are
    tested without one.
    """

    def __init__(
        self, threads: int, *, on_device: bool = False, force_staging: bool = False
    ) -> None:
        self.threads = threads
        self.on_device = on_device
        self.force_staging = force_staging
        self.counts = DecodeCounts()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="bringup-decode")
        self._local = threading.local()  # staging buffers: callers may be several threads
        self._lock = threading.Lock()

    def __enter__(self) -> "Decoder":
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()
        self._local = threading.local()

    def decode(self, source: ScaledTensor, region: Slices, out: torch.Tensor) -> None:
        """Decode ``source[region]`` into ``out``: same shape, bfloat16, float16 or float32.

        Raises FormatError, naming the tensor, if a product overflows ``out``'s dtype.
        """
        self.counts.elements += out.numel()
        self.counts.weights.add(source.name)
        started: list[tuple[_Matrix, list[Future[None]]]] = []
        try:
            matrices = [m for m in _matrices(source, region, out) if m.out.numel()]
            may_exceed = bool(matrices) and source.may_exceed(out.dtype)
            # How a vector unit rounds what exceeds its dtype is a setting that is not ours.
            on_device = self.on_device and not may_exceed and _suits_device(source)
            # Two tasks per thread even out rows whose pages are not in memory yet.
            tasks = max(1, 2 * self.threads // max(1, len(matrices)))
            for matrix in matrices:
                elsewhere = self._is_elsewhere(matrix.out)
                if not elsewhere and matrix.out.stride(1) == 1:
                    started.append((matrix, self._submit(matrix, tasks, fresh=True)))
                elif elsewhere and on_device:
                    self._decode_on_device(matrix)
                    started.append((matrix, []))
                else:
                    self._decode_staged(matrix)
                    started.append((matrix, []))
        finally:  # no thread may write into ``out`` once this has returned
            for _, futures in started:
                wait(futures)
        for matrix, futures in started:
            self._wait(futures)
            if may_exceed:
                self._check_overflow(matrix)

    def _submit(self, matrix: _Matrix, tasks: int, fresh: bool = False) -> "list[Future[None]]":
        """Start decoding one matrix, rows divided over at most so many tasks.

        ``fresh``: its ``out`` may be memory that was never written, as a new parameter is.
        """
        out = matrix.out

        def task(start: int, stop: int) -> None:
            part = matrix.rows(start, stop, out[start:stop])
            if fresh:
                _populate(part.out)
            if part.decode():
                with self._lock:
                    self.counts.nan_weights.add(matrix.source.name)

        rows = out.shape[0]
        if self.threads == 1 or out.numel() < 2 * _MIN_ELEMENTS_PER_TASK:
            task(0, rows)
            return []
        tasks = min(tasks, rows, out.numel() // _MIN_ELEMENTS_PER_TASK)
        bounds = [rows * i // tasks for i in range(tasks + 1)]
        return [self._pool.submit(task, start, stop) for start, stop in pairwise(bounds)]

    def _wait(self, futures: "list[Future[None]]") -> None:
        for future in futures:
            future.result()

    def _is_elsewhere(self, out: torch.Tensor) -> bool:
        return out.device.type != "cpu" or self.force_staging

    def _decode_on_device(self, matrix: _Matrix) -> None:
        """Copy codes and scales, half of what the values would be, and decode them there."""
        out, device = matrix.out, matrix.out.device
        if out.stride(1) != 1:
            out = torch.empty(out.shape, dtype=out.dtype, device=device)
        scale = matrix.scale.to(device)
        table = None if matrix.scale_table is None else matrix.scale_table.to(device)
        self.counts.copied += scale.nbytes + (0 if table is None else table.nbytes)
        rows = max(1, DEVICE_BYTES // out.shape[1])
        for start in range(0, out.shape[0], rows):
            part = matrix.rows(start, start + rows, out[start : start + rows])
            part = replace(part, codes=part.codes.to(device), scale=scale, scale_table=table)
            self.counts.copied += part.codes.nbytes
            if part.decode():
                self.counts.nan_weights.add(matrix.source.name)
        if out is not matrix.out:
            matrix.out.copy_(out)
        self.counts.on_device.add(matrix.source.name)

    def _decode_staged(self, matrix: _Matrix) -> None:
        """Decode on the host into a reused buffer and copy from there.

        For parameters on a device (some CANN builds cannot cast fp8 there) and for transposed
        ones. A matrix larger than one buffer goes in parts, and the next part is decoded into the
        second buffer while the first is copied.
        """
        out = matrix.out
        columns = out.shape[1]
        rows = max(1, STAGING_BYTES // (columns * out.element_size()))
        pending: tuple[list[Future[None]], torch.Tensor, int, int] | None = None
        for part, start in enumerate(range(0, out.shape[0], rows)):
            stop = min(out.shape[0], start + rows)
            staging = self._buffer(part % 2, stop - start, columns, out.dtype)
            futures = self._submit(matrix.rows(start, stop, staging), 2 * self.threads)
            if pending:
                self._copy(out, *pending)
            pending = (futures, staging, start, stop)
        if pending:
            self._copy(out, *pending)

    def _copy(
        self,
        out: torch.Tensor,
        futures: "list[Future[None]]",
        staging: torch.Tensor,
        start: int,
        stop: int,
    ) -> None:
        self._wait(futures)
        out[start:stop].copy_(staging)
        if self._is_elsewhere(out):
            self.counts.copied += staging.nbytes

    def _buffer(self, which: int, rows: int, columns: int, dtype: torch.dtype) -> torch.Tensor:
        size = rows * columns * dtype.itemsize
        buffers: dict[int, torch.Tensor] = self._local.__dict__.setdefault("staging", {})
        if which not in buffers or buffers[which].numel() < size:
            buffers[which] = torch.empty(size, dtype=torch.uint8, device="cpu")
        return buffers[which][:size].view(dtype).view(rows, columns)

    def _check_overflow(self, matrix: _Matrix) -> None:
        """fp16 ends at 65504, and 448 times a scale can exceed it; bf16 only by a broken scale.

        The bound makes this free for every healthy checkpoint: the decoded values are looked at
        only if some scale could overflow. An infinity in ``out`` is new unless codes hold some.
        """
        source, out = matrix.source, matrix.out
        infinite = torch.isinf(out)
        if bool(infinite.any()):
            raise FormatError(
                f"{int(infinite.sum())} values of {source.name} in {source.shard} exceed "
                f"{str(out.dtype).removeprefix('torch.')} (largest scale "
                f"{source.largest():g})",
                f"values up to {torch.finfo(out.dtype).max:g}",
                "use --dtype bfloat16 if the chip has it (310P does not); otherwise this "
                "checkpoint does not fit float16",
            )


def _matrices(source: ScaledTensor, region: Slices, out: torch.Tensor) -> Iterator[_Matrix]:
    """The region matrix by matrix."""
    *lead, rows, columns = region
    if source.rows is None:
        ranges = [range(s.start, s.stop) for s in lead]
        for at, position in zip(product(*ranges), product(*map(_indices, ranges)), strict=True):
            yield _matrix(source, at, rows, columns, out[position])
        return
    first, last = source.rows
    height = last - first
    for index in range(source.codes.shape[0]):
        top = index * height  # in the weight; its rows are first:last of this matrix
        start, stop = max(rows.start, top), min(rows.stop, top + height)
        if start < stop:
            here = slice(first + start - top, first + stop - top)
            part = out[start - rows.start : stop - rows.start]
            yield _matrix(source, (index,), here, columns, part)


def _matrix(
    source: ScaledTensor, at: tuple[int, ...], rows: slice, columns: slice, out: torch.Tensor
) -> _Matrix:
    in_bytes = columns
    if source.packed:
        in_bytes = slice(columns.start // 2, -(-columns.stop // 2))
    codes = source.codes[at][rows, in_bytes]
    if codes.shape[1] > 1 and codes.stride(1) != 1:
        codes = codes.contiguous()  # experts packed along rows: kernels walk along columns
    scale = source.scale[at]
    table, zero = (None if t is None else t[at] for t in (source.scale_table, source.zero))
    return _Matrix(source, codes, scale, table, zero, (rows.start, columns.start), out)


def _suits_device(source: ScaledTensor) -> bool:
    """Whether a device decodes it well: fp8 with a scale for a large block, a row or the tensor."""
    whole_rows = source.block[1] >= source.shape[-1]
    large = whole_rows or min(source.block) >= _DEVICE_BLOCK
    return large and source.code_format in CODE_FORMATS


def _indices(values: range) -> range:
    return range(len(values))


def _populate(out: torch.Tensor) -> None:
    """Have the kernel map the pages of ``out`` in one call, where it can.

    Decoding into a new parameter would otherwise stop at each of its pages for a fault, which
    takes longer than decoding the page. Older kernels refuse the advice; then nothing is lost.
    Memory whose first and last page are mapped was written before, and is left alone.
    """
    if not out.is_contiguous() or sys.platform != "linux":
        return
    page = mmap.PAGESIZE
    first, end = -(-out.data_ptr() // page), (out.data_ptr() + out.nbytes) // page
    if end > first and not (_is_mapped(first * page) and _is_mapped((end - 1) * page)):
        libc().madvise(first * page, (end - first) * page, _MADV_POPULATE_WRITE)


def _is_mapped(page_address: int) -> bool:
    residency = ctypes.c_ubyte()
    libc().mincore(page_address, mmap.PAGESIZE, ctypes.byref(residency))
    return bool(residency.value & 1)


@cache
def libc() -> ctypes.CDLL:
    """The C library, for advice to the kernel about memory."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    libc.mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p)
    return libc


@cache
def warm_up(dtype: torch.dtype) -> None:
    """Load the compiled kernel in the background, once: importing numba takes a fifth of a second.

    Called while vLLM builds the model, so that the first weight need not wait for it.
    """

    def run() -> None:
        cpu = torch.device("cpu")  # vLLM builds models under the device they serve on
        code = torch.zeros(1, 1, dtype=torch.uint8, device=cpu)
        scale = torch.ones(1, 1, dtype=torch.float32, device=cpu)
        out = torch.empty(1, 1, dtype=dtype, device=cpu)
        fp8_dequant(code, scale, out, block=(1, 1))

    threading.Thread(target=run, name="bringup-warm-up", daemon=True).start()


def default_threads(local_ranks: int) -> int:
    """Cores this process may use, divided by the ranks that decode on the same machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, (cores or 1) // max(1, local_ranks))
