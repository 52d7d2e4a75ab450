# SPDX-License-Identifier: Apache-2.0
"""Logs from files and standard input, line by line, of any length."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import BinaryIO

from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose import diagnose_logs
from vllm_ascend_bringup.tools.diagnose.base import Finding

STDIN = "-"
_BLOCK = 1 << 20  # characters
# Progress bars and dumps without line ends would fill the memory. Such a line counts as several.
_LONGEST_LINE = 1 << 16


class LogError(BringupError):
    """A log that cannot be read."""

    exit_code = 2


def diagnose_files(names: list[str]) -> tuple[Finding, ...]:
    """Diagnose the named logs together; ``-`` is standard input. Raises LogError."""
    with ExitStack() as opened:
        streams = [opened.enter_context(_open(name)) for name in names]
        several = len(names) > 1
        logs = [
            (name if several else None, _lines(name, stream))
            for name, stream in zip(names, streams, strict=True)
        ]
        return diagnose_logs(logs)


def _open(name: str) -> BinaryIO:
    try:
        return sys.stdin.buffer if name == STDIN else Path(name).open("rb")
    except OSError as error:
        raise _unreadable(name, error) from None


def _lines(name: str, stream: BinaryIO) -> Iterator[str]:
    # Line ends as they are: line numbers must be those of grep and of an editor.
    text = TextIOWrapper(stream, encoding="utf-8", errors="replace", newline="\n")
    rest = ""
    try:
        while block := text.read(_BLOCK):
            *lines, rest = (rest + block).split("\n")
            yield from lines
            if len(rest) > _LONGEST_LINE:
                yield rest
                rest = ""
    except OSError as error:  # a directory, a disk that fails
        raise _unreadable(name, error) from None
    if rest:
        yield rest


def _unreadable(name: str, error: OSError) -> LogError:
    return LogError(
        Text("{name} cannot be read: {why}", "无法读取 {name}：{why}").format(
            name=name, why=error.strerror
        ),
        Text("a log file, or - for standard input", "日志文件，或用 - 表示标准输入"),
        Text("check the path and its permissions", "检查路径和权限"),
    )
