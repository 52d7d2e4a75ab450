# SPDX-License-Identifier: Apache-2.0
"""Watch one load: what was written into which parameter, and which tensors were ever used.

vLLM's loaders are hundreds of hand-written functions. Some skip a name they do not know, some
fill only a part of a fused parameter, and copying fp8 codes into a bf16 parameter is a plain
numeric cast to torch. This mode sees every aten operation of a load, whoever issued it, and turns
those three into errors.
"""

import bisect
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.lazy_weight import LazyWeight

_aten = torch.ops.aten
# By name, since older torch lacks some of them.
LOW_PRECISION_DTYPES = frozenset(
    getattr(torch, name)
    for name in ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz",
                 "float8_e8m0fnu", "float4_e2m1fn_x2")
    if hasattr(torch, name)
)  # fmt: skip


class LoadAudit(TorchDispatchMode):
    """Active during a model's ``load_weights``.

    ``parameters``: name -> parameter of the model. Afterwards ``unfilled()`` and ``unused()``
    tell what is missing; reaching a parameter undecoded raises FormatError at once.
    """

    def __init__(self, parameters: Mapping[str, torch.nn.Parameter]) -> None:
        super().__init__()
        self._parameters = dict(parameters)
        self._addresses = {name: p.data_ptr() for name, p in self._parameters.items()}
        spans = sorted(
            (self._addresses[name], self._addresses[name] + p.nbytes, name)
            for name, p in self._parameters.items()
            if p.nbytes and p.device.type != "meta"
        )
        self._starts = [start for start, _, _ in spans]
        self._spans = spans
        self._written: dict[str, int] = dict.fromkeys(self._parameters, 0)
        self._used: set[str] = set()
        self._plain: set[str] = set()
        # Addresses of the tensors streamed so far, to recognize them in later operations.
        self._tensor_starts: list[int] = []
        self._tensors: dict[int, tuple[int, str]] = {}
        self._paused = False
        self._current = "?"

    def watch(
        self, weights: Iterator[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Pass the stream through, remembering which tensor is which."""
        for name, tensor in weights:
            self._current = name
            if not isinstance(tensor, LazyWeight) and tensor.nbytes:
                self._plain.add(name)
                self._remember(tensor.data_ptr(), tensor.nbytes, name)
            yield name, tensor

    def unwatched(
        self, weights: Iterator[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Pass a stream through whose own work is trusted: decoders cast fp8 on purpose."""
        while True:
            self._paused = True
            try:
                item = next(weights)
            except StopIteration:
                return
            finally:
                self._paused = False
            yield item

    def unfilled(
        self, now: Mapping[str, torch.nn.Parameter] | None = None
    ) -> dict[str, tuple[int, int]]:
        """Parameters not wholly written: name -> (elements written, elements).

        ``now``: the model's parameters after the load; one that became another object or got
        other memory was replaced whole.
        """
        now = self._parameters if now is None else now
        return {
            name: (self._written[name], parameter.numel())
            for name, parameter in self._parameters.items()
            if self._written[name] < parameter.numel()
            and now.get(name) is parameter
            and parameter.data_ptr() == self._addresses[name]
        }

    def unused(self) -> set[str]:
        """Tensors of the stream that no operation has read, decoded ones aside."""
        return self._plain - self._used

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: "dict[str, Any] | None" = None,
    ) -> Any:
        """Note what an operation reads and writes, then let it run."""
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        self._refuse_numeric_use(func, args, kwargs)
        # By hand: a loader issues hundreds of thousands of operations, and torch's tree_flatten
        # takes longer than most of them.
        for value in (*args, *kwargs.values()):
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                if isinstance(tensor, torch.Tensor):
                    self._note_read(tensor)
        result = func(*args, **kwargs)
        if func._schema.is_mutable:
            self._note_write(func, args, kwargs)
        return result

    def _refuse_numeric_use(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Raise if codes are about to be converted as if they were numbers."""
        if func is _aten.copy_.default:
            source, target = args[1], args[0].dtype
            into = self._name_at(args[0])
        elif func is _aten._to_copy.default:
            source, target = args[0], kwargs.get("dtype") or args[0].dtype
            into = None
        else:
            return
        if source.dtype in LOW_PRECISION_DTYPES and target != source.dtype:
            name = self._find_tensor(source.data_ptr()) or self._current
            where = f"parameter {into}" if into else str(target)
            raise FormatError(
                f"tensor {name} ({source.dtype}) is about to be copied undecoded into {where}",
                "decoded weights",
                "restore the quantization settings in config.json as the checkpoint's author "
                "published them; deleting quantization_config makes vLLM serve garbage",
            )

    def _note_read(self, tensor: torch.Tensor) -> None:
        # A LazyWeight's own decoder knows whether it was decoded.
        if not isinstance(tensor, LazyWeight) and tensor.device.type == "cpu" and tensor.nbytes:
            name = self._find_tensor(tensor.data_ptr())
            if name is not None:
                self._used.add(name)

    def _note_write(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        for argument, value in zip(func._schema.arguments, args, strict=False):
            if argument.alias_info is not None and argument.alias_info.is_write:
                for tensor in value if isinstance(value, (list, tuple)) else [value]:
                    name = self._name_at(tensor)
                    if name is not None:
                        # An operation that scatters is trusted to fill what it is given.
                        self._written[name] += tensor.numel()

    def _name_at(self, tensor: Any) -> str | None:
        """The parameter that ``tensor`` is a view of."""
        if not isinstance(tensor, torch.Tensor) or isinstance(tensor, LazyWeight):
            return None
        if not tensor.nbytes or tensor.device.type == "meta":
            return None
        address = tensor.data_ptr()
        at = bisect.bisect_right(self._starts, address) - 1
        if at >= 0 and address < self._spans[at][1]:
            return self._spans[at][2]
        return None

    def _remember(self, start: int, nbytes: int, name: str) -> None:
        stop = start + nbytes
        at = bisect.bisect_left(self._tensor_starts, start)
        if at and self._tensors[self._tensor_starts[at - 1]][0] > start:
            at -= 1
        while at < len(self._tensor_starts) and self._tensor_starts[at] < stop:
            # The memory of an earlier tensor that was freed.
            del self._tensors[self._tensor_starts.pop(at)]
        self._tensor_starts.insert(at, start)
        self._tensors[start] = (stop, name)

    def _find_tensor(self, address: int) -> str | None:
        at = bisect.bisect_right(self._tensor_starts, address) - 1
        if at < 0:
            return None
        stop, name = self._tensors[self._tensor_starts[at]]
        return name if address < stop else None
