# SPDX-License-Identifier: Apache-2.0
"""Call a function in a forked child: nothing it does, not even dying, reaches this process."""

import contextlib
import functools
import gc
import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

_LEAVE_SECONDS = 10.0


class ChildError(Exception):
    """The function raised, its process died, or it took too long: one line about which."""


def in_child(function: Callable[..., Any], *arguments: Any, log: Path, timeout: float) -> Any:
    """What ``function(*arguments)`` returns; raises ChildError. What it prints goes to ``log``."""
    return in_children([functools.partial(function, *arguments)], log=log, timeout=timeout)[0]


def in_children(
    functions: Sequence[Callable[[], Any]], *, log: Path, timeout: float
) -> tuple[Any, ...]:
    """The same of several at once; the first that raises ends all of them."""
    context = multiprocessing.get_context("fork")
    children: dict[Any, Any] = {}
    values: dict[Any, Any] = {}
    deadline = time.monotonic() + timeout
    try:
        for function in functions:
            receiver, sender = context.Pipe(duplex=False)
            child = context.Process(target=_call, args=(sender, log, function))
            child.start()
            sender.close()
            children[receiver] = child
        while len(values) < len(children):
            waiting = [receiver for receiver in children if receiver not in values]
            ready: list[Any] = wait(waiting, max(0, deadline - time.monotonic()))
            if not ready:
                raise ChildError(f"no end within {timeout:.0f} s")
            for receiver in ready:
                values[receiver] = _received(receiver, children[receiver])
    finally:
        for child in children.values():
            _end(child)
    return tuple(values[receiver] for receiver in children)


def _end(child: Any) -> None:
    """Make it leave, with all processes that it started."""
    deadline = time.monotonic() + _LEAVE_SECONDS
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGTERM)
        child.join(_LEAVE_SECONDS)
        # Python's tracker of shared memory heeds no signal, removes what is left of it, and goes.
        while time.monotonic() < deadline:
            os.killpg(child.pid, 0)
            time.sleep(0.01)
        os.killpg(child.pid, signal.SIGKILL)
    child.join()


def _received(receiver: Any, child: Any) -> Any:
    try:
        value, error = receiver.recv()
    except EOFError:
        child.join()
        raise ChildError(f"its process died with exit code {child.exitcode}") from None
    if error:
        raise ChildError(error)
    return value


def _call(sender: Any, log: Path, function: Callable[[], Any]) -> None:
    os.setsid()
    # vLLM collects garbage often; what is here already needs no look, and stays shared.
    gc.freeze()
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    try:
        sender.send((function(), ""))
    except Exception as error:
        traceback.print_exception(error)
        sender.send((None, _one_line(error)))


def _one_line(error: Exception) -> str:
    """The error's first line, or the second where the first only says that validation failed."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:  # a bare assertion: its place says more
        place = traceback.extract_tb(error.__traceback__)[-1]
        lines = [f"{place.line} ({Path(place.filename).name}:{place.lineno})"]
    wordy = len(lines) > 1 and "validation error" in lines[0].lower()
    return f"{type(error).__name__}: {lines[wordy]}"
