# SPDX-License-Identifier: Apache-2.0
"""Put the emulated torch_npu where ``import torch_npu`` finds it."""

import importlib
import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any, NoReturn

import torch

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.emulation import device, torch_changes
from vllm_ascend_bringup.emulation.catalog import OPERATORS
from vllm_ascend_bringup.emulation.schemas import Schema, schemas
from vllm_ascend_bringup.hardware import CHIPS

_NAME = "torch_npu"
_MODULE = ModuleType(_NAME, "The emulation of vllm_ascend_bringup.")
_MODULE.__spec__ = ModuleSpec(_NAME, None, origin=emulation.__name__)
_ATB, _C = ModuleType(f"{_NAME}.atb"), ModuleType(f"{_NAME}._C")
# Alive as long as the operators are to be in torch's dispatcher.
_libraries: dict[str, torch.library.Library] = {}


def install(version: str, chip: str) -> ModuleType:
    """See the package."""
    operators = schemas(version)
    if chip not in CHIPS:
        raise ValueError(f"chip {chip!r}: expected one of {', '.join(CHIPS)}")
    if _real_one():
        raise RuntimeError("torch_npu is installed: the emulation is for machines without it")
    remove()
    torch_changes.apply(device)
    device.emulate(CHIPS[chip])
    for schema in operators:
        _register(schema)
    for schema in operators:
        owner, _, name = schema.path.rpartition(".")
        packet = getattr(getattr(torch.ops, schema.namespace), name)
        setattr(_ATB if owner else _MODULE, name, packet)
    _MODULE.__version__ = version  # type: ignore[attr-defined]
    _MODULE.npu = device  # type: ignore[attr-defined]
    _MODULE.atb, _MODULE._C = _ATB, _C  # type: ignore[attr-defined]
    _C._NPUTaskGroupHandle = device.NPUGraph  # type: ignore[attr-defined]
    sys.modules |= {_NAME: _MODULE, f"{_NAME}.npu": device, f"{_NAME}.atb": _ATB}
    return _MODULE


def remove() -> None:
    """See the package."""
    for library in _libraries.values():
        library._destroy()
    _libraries.clear()
    for module in (_MODULE, _ATB):
        for name in [name for name in vars(module) if not name.startswith("__")]:
            delattr(module, name)
    for name in (_NAME, f"{_NAME}.npu", f"{_NAME}.atb"):
        sys.modules.pop(name, None)
    torch_changes.revert()


def _real_one() -> bool:
    if _NAME in sys.modules:
        return sys.modules[_NAME] is not _MODULE
    found = find_spec(_NAME)
    return found is not None and found.origin != emulation.__name__


def _register(schema: Schema) -> None:
    """Define an overload in torch's dispatcher, with what computes it or refuses to."""
    library = _libraries.get(schema.namespace)
    if library is None:
        library = _libraries[schema.namespace] = torch.library.Library(schema.namespace, "DEF")
    library.define(schema.text.partition("::")[2])
    target = OPERATORS.get(schema.name)
    function = _refusal(schema) if target is None else _load(target)
    # Not "CPU": some operators have no tensor by which torch could tell the device.
    library.impl(schema.name, function, "CompositeExplicitAutograd")


def _load(target: str) -> Callable[..., Any]:
    module, _, name = target.partition(":")
    function: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return function


def _refusal(schema: Schema) -> Callable[..., NoReturn]:
    def refuse(*arguments: object, **options: object) -> NoReturn:
        raise NotImplementedError(f"torch_npu.{schema.path}: this operator is not emulated")

    return refuse
