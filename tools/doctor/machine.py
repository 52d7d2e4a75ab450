# SPDX-License-Identifier: Apache-2.0
"""The machine that is examined: its files, and its commands with an end to waiting."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import Answer

# After this long, a process that was killed is stuck in its driver, and no signal ends it.
_REAPED_SECONDS = 2.0


@dataclass(frozen=True)
class Machine:
    """This one, or a recorded one: ``root`` holds its files, ``environ`` its PATH."""

    root: Path = Path("/")
    environ: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    python: str = sys.executable
    site: Sequence[str] = field(default_factory=lambda: tuple(sys.path))
    folder: Path = field(default_factory=Path.cwd)
    _running: "set[subprocess.Popen[bytes]]" = field(default_factory=set, init=False)
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)

    def file(self, path: str | Path) -> Path:
        """Where a file of the machine is."""
        return self.root / str(path).lstrip("/")

    def text(self, path: str | Path) -> str | None:
        """Of a file; None if it is not there or may not be read."""
        try:
            return self.file(path).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    def which(self, command: str) -> str | None:
        """A command on the machine's PATH."""
        return shutil.which(command, path=self.environ.get("PATH", ""))

    def run(self, command: Sequence[str], timeout: float) -> Answer:
        """Run it, and stop its whole process group after ``timeout`` seconds.

        Raises OSError if it cannot be started.
        """
        started = time.monotonic()
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            env=dict(self.environ), cwd=self.folder, start_new_session=True,
        )  # fmt: skip
        self._running.add(process)
        if self._stopped.is_set():  # between its start and the line above
            _kill(process)
        output, code = b"", None
        try:
            output, _ = process.communicate(timeout=timeout)
            code = process.returncode
        except subprocess.TimeoutExpired as expired:
            output = expired.stdout or b""
        finally:
            _end(process)
            self._running.discard(process)
        return Answer(
            " ".join(command), code, output.decode("utf-8", "replace"), time.monotonic() - started
        )

    def stop(self) -> None:
        """Kill what runs and what will be run; the threads that wait for it clear up after it."""
        self._stopped.set()
        for process in tuple(self._running):
            _kill(process)


def ended(answer: Answer) -> Text:
    """How a command ended that did not end well."""
    if answer.code is None:
        seconds = f"{answer.seconds:.0f}"
        return Text(f"no answer in {seconds} s", f"{seconds} 秒内没有响应")
    if answer.code < 0:
        return Text(f"killed by signal {-answer.code}", f"被信号 {-answer.code} 终止")
    return Text(f"exit code {answer.code}", f"退出码 {answer.code}")


def _kill(process: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _end(process: "subprocess.Popen[bytes]") -> None:
    _kill(process)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_REAPED_SECONDS)
    if process.stdout:
        process.stdout.close()
