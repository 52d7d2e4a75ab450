# SPDX-License-Identifier: Apache-2.0
"""Watch ``load_weights`` on the meta device: which tensor went into which parameter.

Nothing is computed there, but vLLM's own loaders run, so names, shards and shapes are judged by
the code that will load the checkpoint, not by a copy of it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class MetaWatch(TorchDispatchMode):
    """Active around ``load_weights``. ``parameters``: name -> parameter on the meta device.

    ``written``: parameter -> elements written into it. ``read``: tensor -> its elements that went
    into parameters. ``taken``: tensors that anything was made of. ``casts``: tensors whose dtype
    was not the parameter's -> (tensor's, parameter's). ``current``: the tensor handed out last.
    """

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.written = dict.fromkeys(parameters, 0)
        self.read: dict[str, int] = {}
        self.taken: set[str] = set()
        self.casts: dict[str, tuple[str, str]] = {}
        self.current = ""
        # Meta tensors have no addresses; views share their storage.
        self._parameters = {_storage(tensor): name for name, tensor in parameters.items()}
        self._tensors: dict[int, str] = {}
        self._alive: list[torch.Tensor] = []  # or a storage could be taken for a later one

    def stream(
        self, weights: Iterable[tuple[str, torch.Tensor]]
    ) -> Iterator[tuple[str, torch.Tensor]]:
        """Pass the weights through, remembering which is which."""
        for name, tensor in weights:
            self.current = name
            self._remember(tensor, name)
            yield name, tensor

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Note what is read and written."""
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.copy_.default:
            self._note_copy(*args[:2])
        elif not any(value.alias_info for value in func._schema.returns):
            self._note_made(args, result)
        return result

    def _note_copy(self, into: torch.Tensor, source: torch.Tensor) -> None:
        parameter = self._parameters.get(_storage(into))
        name = self._tensors.get(_storage(source))
        if parameter is not None:
            self.written[parameter] += into.numel()
        if name is None:
            return
        self.taken.add(name)
        if parameter is None:
            self._remember(into, name)
            return
        self.read[name] = self.read.get(name, 0) + into.numel()
        if into.dtype != source.dtype:
            self.casts[name] = (str(source.dtype)[6:], str(into.dtype)[6:])

    def _note_made(self, args: tuple[Any, ...], result: Any) -> None:
        """What is made of one tensor goes by its name: a class may turn or cast it first."""
        for value in args:
            for tensor in value if isinstance(value, (list, tuple)) else (value,):
                name = self._tensors.get(_storage(tensor)) if _is_tensor(tensor) else None
                if name is not None:
                    self.taken.add(name)
                    if _is_tensor(result):
                        self._remember(result, name)

    def _remember(self, tensor: torch.Tensor, name: str) -> None:
        self._tensors.setdefault(_storage(tensor), name)
        self._alive.append(tensor)


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor)


def _storage(tensor: torch.Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)
