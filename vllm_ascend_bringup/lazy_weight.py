# SPDX-License-Identifier: Apache-2.0
"""LazyWeight: a bf16 or fp16 tensor to vLLM, codes and scales underneath.

vLLM's loaders narrow, select, chunk and transpose a checkpoint tensor and copy what is left into
a parameter. A LazyWeight follows along without decoding, and decodes in that copy: exactly the
slice this rank needs, straight into the parameter. It knows its place in the tensor on disk, so
block scales stay right on ragged tails and on slices that cut through a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils._pytree import tree_map

from vllm_ascend_bringup.decode import Decoder, ScaledTensor, Slices

_aten = torch.ops.aten


@dataclass(frozen=True)
class _Window:
    """Which part of the tensor on disk a LazyWeight shows, and in which order of dimensions.

    ``region``: one slice per dimension on disk. ``order``: for each dimension shown, the
    dimension on disk it walks over, or None for one of size 1 that was inserted. A dimension on
    disk that is not in ``order`` has size 1 in ``region``: it was selected away.
    """

    region: Slices
    order: tuple[int | None, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        sizes = [s.stop - s.start for s in self.region]
        return tuple(1 if on_disk is None else sizes[on_disk] for on_disk in self.order)

    def narrow(self, dim: int, start: int, stop: int) -> "_Window":
        on_disk = self.order[dim]
        if on_disk is None:  # a dimension of size 1: nothing to move, the caller kept 0:1
            return self
        region = list(self.region)
        base = region[on_disk].start
        region[on_disk] = slice(base + start, base + stop)
        return _Window(tuple(region), self.order)

    def drop(self, dim: int) -> "_Window":
        return _Window(self.region, self.order[:dim] + self.order[dim + 1 :])

    def insert(self, dim: int) -> "_Window":
        return _Window(self.region, (*self.order[:dim], None, *self.order[dim:]))

    def permute(self, dims: Sequence[int]) -> "_Window":
        return _Window(self.region, tuple(self.order[dim] for dim in dims))

    def reshape(self, shape: Sequence[int]) -> "_Window | None":
        """The window for a view that only adds or removes dimensions of size 1, else None."""
        kept = [on_disk for on_disk, size in zip(self.order, self.shape, strict=True) if size != 1]
        if [size for size in shape if size != 1] != [size for size in self.shape if size != 1]:
            return None
        remaining = iter(kept)
        return _Window(self.region, tuple(None if size == 1 else next(remaining) for size in shape))


class LazyWeight(torch.Tensor):
    """A view of a ScaledTensor that decodes when it is copied.

    ``slice``, ``select``, ``split``, ``unbind``, ``transpose``, ``permute``, ``unsqueeze``,
    ``squeeze``, ``detach`` and views that add or remove dimensions of size 1 stay lazy. ``copy_``
    decodes into its destination. Any other operation decodes into a new tensor first, and is
    counted in ``decoder.counts.materialized``.
    """

    _source: ScaledTensor
    _decoder: Decoder
    _window: _Window

    @staticmethod
    def __new__(
        cls, source: ScaledTensor, decoder: Decoder, dtype: torch.dtype, window: _Window
    ) -> "LazyWeight":
        """Internal; use ``LazyWeight.wrap``."""
        made: LazyWeight = torch.Tensor._make_wrapper_subclass(cls, window.shape, dtype=dtype)
        made._source, made._decoder, made._window = source, decoder, window
        return made

    @classmethod
    def wrap(cls, source: ScaledTensor, decoder: Decoder, dtype: torch.dtype) -> "LazyWeight":
        """The whole of ``source`` as a tensor of ``dtype`` (bfloat16, float16 or float32)."""
        shape = source.shape
        window = _Window(tuple(slice(0, n) for n in shape), tuple(range(len(shape))))
        return cls(source, decoder, dtype, window)

    def _with(self, window: _Window) -> "LazyWeight":
        return LazyWeight(self._source, self._decoder, self.dtype, window)

    def materialize(self) -> torch.Tensor:
        """Decode what this tensor shows into a new tensor on the host."""
        out = torch.empty(self._window.shape, dtype=self.dtype, device="cpu")
        self._decode_into(out)
        return out

    def _decode_into(self, out: torch.Tensor) -> None:
        """Decode into ``out`` (this shape and dtype), turned to the order of the disk first."""
        order = self._window.order
        shown = [dim for dim, on_disk in enumerate(order) if on_disk is not None]
        turned = out[tuple(slice(None) if o is not None else 0 for o in order)]
        turned = turned.permute(sorted(range(len(shown)), key=lambda i: cast(int, order[shown[i]])))
        for dim in range(len(self._window.region)):
            if dim not in order:
                turned = turned.unsqueeze(dim)
        self._decoder.decode(self._source, self._window.region, turned)

    def __repr__(self, **_: object) -> str:  # type: ignore[override]
        return f"LazyWeight({self._source.name}, shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: "dict[str, Any] | None" = None,
    ) -> Any:
        """Route one aten operation: lazily, as a decoding copy, or on a decoded tensor."""
        kwargs = kwargs or {}
        view = _VIEWS.get(func)
        if view is not None:
            result = view(*args, **kwargs)
            if result is not None:
                return result
        if func is _aten.copy_.default and not isinstance(args[0], LazyWeight):
            destination, lazy = args[0], args[1]
            if destination.shape == lazy.shape and destination.dtype == lazy.dtype:
                lazy._decode_into(destination)
            else:
                # Decoded at its own dtype first, so that a wider parameter gets the same values
                # as from a dense checkpoint.
                destination.copy_(lazy.materialize())
            return destination
        return func(*tree_map(_decoded(func), args), **tree_map(_decoded(func), kwargs))


def _decoded(func: Any) -> Any:
    def decode(value: Any) -> Any:
        if not isinstance(value, LazyWeight):
            return value
        materialized = value._decoder.counts.materialized
        materialized[str(func)] = materialized.get(str(func), 0) + 1
        return value.materialize()

    return decode


def _dim(tensor: torch.Tensor, dim: int, extra: int = 0) -> int:
    size = max(tensor.dim() + extra, 1)  # torch lets 0 and -1 pass for a scalar
    if not -size <= dim < size:
        raise IndexError(f"dimension {dim} is out of range for {tensor.dim()} dimensions")
    return dim % size


def _slice(
    lazy: LazyWeight, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> LazyWeight | None:
    if step != 1:
        return None
    dim = _dim(lazy, dim)
    bounds = slice(start, end).indices(lazy.shape[dim])
    if lazy._window.order[dim] is None and bounds[:2] != (0, 1):
        return None
    return lazy._with(lazy._window.narrow(dim, bounds[0], max(bounds[0], bounds[1])))


def _select(lazy: LazyWeight, dim: int, index: int) -> LazyWeight:
    dim = _dim(lazy, dim)
    size = lazy.shape[dim]
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of range for dimension {dim} of size {size}")
    index %= size
    return lazy._with(lazy._window.narrow(dim, index, index + 1).drop(dim))


def _split_with_sizes(
    lazy: LazyWeight, sizes: Sequence[int], dim: int = 0
) -> list[LazyWeight] | None:
    dim = _dim(lazy, dim)
    inserted = lazy._window.order[dim] is None
    if sum(sizes) != lazy.shape[dim] or any(n < 0 for n in sizes) or (inserted and sizes[1:]):
        return None
    parts, start = [], 0
    for size in sizes:
        parts.append(lazy._with(lazy._window.narrow(dim, start, start + size)))
        start += size
    return parts


def _split(lazy: LazyWeight, size: int, dim: int = 0) -> list[LazyWeight] | None:
    total = lazy.shape[_dim(lazy, dim)]
    sizes = [min(size, total - start) for start in range(0, max(total, 1), max(size, 1))]
    return _split_with_sizes(lazy, sizes, dim)


def _unbind(lazy: LazyWeight, dim: int = 0) -> list[LazyWeight]:
    return [_select(lazy, dim, index) for index in range(lazy.shape[_dim(lazy, dim)])]


def _permute(lazy: LazyWeight, dims: Sequence[int]) -> LazyWeight | None:
    dims = [_dim(lazy, dim) for dim in dims]
    if sorted(dims) != list(range(lazy.dim())):
        return None
    return lazy._with(lazy._window.permute(dims))


def _transpose(lazy: LazyWeight, first: int, second: int) -> LazyWeight | None:
    dims = list(range(lazy.dim()))
    first, second = _dim(lazy, first), _dim(lazy, second)
    dims[first], dims[second] = dims[second], dims[first]
    return _permute(lazy, dims)


def _t(lazy: LazyWeight) -> LazyWeight | None:
    return _permute(lazy, range(lazy.dim())[::-1])


def _unsqueeze(lazy: LazyWeight, dim: int) -> LazyWeight:
    return lazy._with(lazy._window.insert(_dim(lazy, dim, extra=1)))


def _squeeze(lazy: LazyWeight, dims: Sequence[int] | int | None = None) -> LazyWeight:
    if dims is None:
        dims = range(lazy.dim())
    chosen = {_dim(lazy, dim) for dim in ([dims] if isinstance(dims, int) else dims)}
    kept = [n for dim, n in enumerate(lazy.shape) if dim not in chosen or n != 1]
    return cast(LazyWeight, _view(lazy, kept))


def _view(lazy: LazyWeight, shape: Sequence[int]) -> LazyWeight | None:
    if -1 in shape:
        known = 1
        for size in shape:
            known *= size if size != -1 else 1
        shape = [lazy.numel() // max(known, 1) if size == -1 else size for size in shape]
    window = lazy._window.reshape(shape)
    return None if window is None else lazy._with(window)


def _alias(lazy: LazyWeight) -> LazyWeight:
    return lazy._with(lazy._window)


# Each returns None where it would have to decode, or where torch shall say what is wrong.
_VIEWS: dict[Any, Any] = {
    _aten.slice.Tensor: _slice,
    _aten.select.int: _select,
    _aten.split.Tensor: _split,
    _aten.split_with_sizes.default: _split_with_sizes,
    _aten.unbind.int: _unbind,
    _aten.permute.default: _permute,
    _aten.transpose.int: _transpose,
    _aten.t.default: _t,
    _aten.unsqueeze.default: _unsqueeze,
    _aten.squeeze.default: _squeeze,
    _aten.squeeze.dim: _squeeze,
    _aten.squeeze.dims: _squeeze,
    _aten.view.default: _view,
    _aten._unsafe_view.default: _view,
    _aten.detach.default: _alias,
    _aten.alias.default: _alias,
}
