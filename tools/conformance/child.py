# SPDX-License-Identifier: Apache-2.0
"""Call a function in a forked child: nothing it does, not even dying, reaches this process."""

import contextlib
import gc
import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any


class ChildError(Exception):
    """The function raised, its process died, or it took too long: one line about which."""


def in_child(function: Callable[..., Any], *arguments: Any, log: Path, timeout: float) -> Any:
    """What ``function(*arguments)`` returns; raises ChildError. What it prints goes to ``log``."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_call, args=(sender, log, function, arguments))
    child.start()
    assert child.pid is not None
    sender.close()
    try:
        if not receiver.poll(timeout):
            raise ChildError(f"no end within {timeout:.0f} s")
        value, error = receiver.recv()
    except EOFError:
        child.join()
        raise ChildError(f"its process died with exit code {child.exitcode}") from None
    finally:
        # The whole group: engines start processes of their own.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.join()
    if error:
        raise ChildError(error)
    return value


def _call(sender: Any, log: Path, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.setsid()
    # vLLM collects garbage often; what is here already needs no look, and stays shared.
    gc.freeze()
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    try:
        sender.send((function(*arguments), ""))
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
