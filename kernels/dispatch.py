# SPDX-License-Identifier: Apache-2.0
"""Choose an implementation of a kernel by asking each whether it can run, and why not."""

import importlib
import logging
from collections.abc import Callable
from functools import cache
from types import ModuleType
from typing import Any

from vllm_ascend_bringup.kernels.catalog import KERNELS

_LOGGER = logging.getLogger(__name__)


def choose(kernel: str, implementation: str | None = None, **needs: object) -> Callable[..., Any]:
    """Return the fastest implementation of ``kernel`` that can serve ``needs``.

    ``implementation`` asks for one by name: it is returned or refused, never replaced. ``needs``
    are what the implementations' ``verify`` takes. Raises KeyError for unknown names and
    RuntimeError, with the reason, if the one asked for cannot run.
    """
    candidates = KERNELS[kernel]
    for name in [implementation] if implementation else candidates:
        module, _, attribute = candidates[name].partition(":")
        loaded = _imported(module)
        if isinstance(loaded, ImportError):
            ok, reason = False, str(loaded)
        else:
            ok, reason = loaded.verify(**needs)
        if ok:
            function: Callable[..., Any] = getattr(loaded, attribute)
            return function
        if implementation:
            raise RuntimeError(f"{kernel}: implementation {name} cannot run: {reason}")
        _log_once(kernel, name, reason)
    raise RuntimeError(f"{kernel}: no implementation can run")


@cache
def _imported(module: str) -> ModuleType | ImportError:
    """The module, or why it cannot be imported: Python would try again at each call."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        return error


@cache
def _log_once(kernel: str, name: str, reason: str) -> None:
    _LOGGER.info("%s: not using %s: %s", kernel, name, reason)
