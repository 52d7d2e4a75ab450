# SPDX-License-Identifier: Apache-2.0
"""How a server ended: by a signal from outside, or by an error of its own.

vLLM logs the exit code of a worker that died, and a traceback for an exception. A process that is
killed leaves neither, only the complaints of those that waited for it.
"""

import re
import signal
from collections.abc import Iterable
from typing import Literal

Ending = Literal["killed", "crashed", "unknown"]

_EXIT_CODE = re.compile(r"died unexpectedly \(exit code: (-?\d+)\)")
_ERROR = re.compile(r"\b\w*(Error|Exception)\b: |Segmentation fault|Fatal Python error")
# What a log says in passing may look like an error.
_REMARK = re.compile(r"^(\(.*?\) )?(DEBUG|INFO|WARNING)\b|Warning: ")
# What is said by processes that find another one gone.
_CONSEQUENCE = re.compile(r"EngineDeadError|RuntimeError: cancelled|(exited|died) unexpectedly")
_FROM_OUTSIDE = {-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP}


def ending(lines: Iterable[str], exit_code: int | None) -> Ending:
    """``lines``: of the log since the server was well. ``exit_code``: of its API server."""
    if exit_code is not None and exit_code < 0:
        return "killed" if exit_code in _FROM_OUTSIDE else "crashed"
    found: Ending = "unknown"
    for line in lines:
        if died := _EXIT_CODE.search(line):
            return "killed" if int(died[1]) in _FROM_OUTSIDE else "crashed"
        if _CONSEQUENCE.search(line):
            found = "killed" if found == "unknown" else found
        elif _is_error(line):
            found = "crashed"
    return found


def first_error(lines: Iterable[str]) -> str | None:
    """The line of the first error that is nobody's complaint about another one."""
    return next((line for line in lines if _is_error(line) and not _CONSEQUENCE.search(line)), None)


def _is_error(line: str) -> bool:
    return bool(_ERROR.search(line)) and not _REMARK.search(line)
