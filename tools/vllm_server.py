# SPDX-License-Identifier: Apache-2.0
"""Run a real ``vllm serve`` and leave nothing behind."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vllm_ascend_bringup.errors import ServeError

# vLLM logs this before the traceback that matters; what follows it is quoted in the error.
_CAUSE_MARKS = ("bringup.errors.", "Error: ", "error: ")
_STOP_SECONDS = 30.0
# A server that never came up has no requests to finish.
_GIVE_UP_SECONDS = 10.0
# In names of memory that ranks share (vllm/distributed/device_communicators/cpu_communicator.py).
_SEGMENT = "-cpushm_"
# Servers here are on this machine, which a proxy of the environment would not find.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
# Waits until its standard input closes, which is when the process that holds the other end is
# gone, however it ended; then stops the process group it was given.
_GUARD = """
import os, signal, sys, time
sys.stdin.read()
os.killpg(int(sys.argv[1]), signal.SIGTERM)
time.sleep(5)
os.killpg(int(sys.argv[1]), signal.SIGKILL)
"""

# Serving on a small CPU machine: little KV cache, no thread pinning (two ranks would share cores).
CPU_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "HF_HUB_OFFLINE": "1",
}
CPU_ARGUMENTS = ("--gpu-memory-utilization", "0.3", "--enforce-eager", "--max-model-len", "512")


class VllmServer:
    """``vllm serve MODEL ARGUMENTS`` as a context manager; ``url`` is its OpenAI base URL.

    Entering waits until it answers on /health and raises ServeError, quoting the cause from its
    log, if it exits or does not answer in ``timeout`` seconds. Leaving stops its whole process
    group, and so does a guard process if this one is killed.

    ``port``: a free one if None. ``host``: the interface it listens on. ``watch``: called between
    two looks at /health; what it raises ends the waiting. ``exit_code``: of the API server if it
    has ended by itself, negative for a signal.
    """

    def __init__(
        self,
        model: str,
        arguments: Sequence[str] = (),
        *,
        environment: Mapping[str, str] | None = None,
        log: Path,
        timeout: float = 600,
        port: int | None = None,
        host: str = "127.0.0.1",
        watch: "Callable[[VllmServer], None] | None" = None,
    ) -> None:
        self.port = port or _free_port()
        self.log = log
        self.command = [
            _vllm_command(), "serve", model, "--host", host, "--port", str(self.port), *arguments,
        ]  # fmt: skip
        self.exit_code: int | None = None
        # What listens on every interface answers on this one.
        self._address = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
        self._watch = watch
        self._environment = {**os.environ, **(environment or {})}
        self._timeout = timeout
        self._process: subprocess.Popen[bytes] | None = None
        self._shared_memory: set[Path] = set()
        self.seconds_to_ready = 0.0

    @property
    def url(self) -> str:
        """Base URL for an OpenAI client."""
        return f"http://{self._address}:{self.port}/v1"

    def running(self) -> bool:
        """Whether the API server has not ended."""
        if self._process is not None:
            self.exit_code = self._process.poll()
        return self._process is not None and self.exit_code is None

    def __enter__(self) -> "VllmServer":
        started = time.monotonic()
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                self.command, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        self._guard = subprocess.Popen(
            [sys.executable, "-S", "-c", _GUARD, str(self._process.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip
        try:
            self._wait_until_ready(started + self._timeout)
        except BaseException:
            self.stop(_GIVE_UP_SECONDS)
            raise
        self.seconds_to_ready = time.monotonic() - started
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def log_lines(self, containing: str) -> list[str]:
        """Lines of the server's log that contain a text."""
        lines = self.log.read_text(errors="replace").splitlines()
        return [line for line in lines if containing in line]

    def stop(self, patience: float = _STOP_SECONDS) -> None:
        """Ask the server to stop, then stop whatever is left of its process group.

        ``patience``: seconds that it, and then each of its processes, gets to end by itself.
        """
        if self._process is None:
            return
        self._shared_memory |= _shared_memory(self._process.pid)
        if self.running():
            self._process.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        deadline = time.monotonic() + patience
        while _group_exists(self._process.pid):
            end = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
            os.killpg(self._process.pid, end)
            self._process.poll()
            time.sleep(0.2)
        self._process.wait()
        self._process = None
        # vLLM's ranks on a CPU leave it when they are told to end.
        for segment in self._shared_memory:
            segment.unlink(missing_ok=True)
        self._guard.kill()
        self._guard.communicate()

    def _wait_until_ready(self, deadline: float) -> None:
        while self._process and self.running():
            # Of a rank that dies later nobody could ask.
            self._shared_memory |= _shared_memory(self._process.pid)
            if self._watch:
                self._watch(self)
            if time.monotonic() > deadline:
                raise ServeError(
                    f"vllm serve did not answer in {self._timeout:.0f} s",
                    "an answer on /health",
                    f"look at {self.log}",
                )
            try:
                with DIRECT.open(self.url.removesuffix("v1") + "health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.25)
        raise ServeError(
            f"vllm serve exited with code {self.exit_code}: {self.cause()}",
            "a running server",
            f"look at {self.log}",
        )

    def cause(self) -> str:
        """The first error of the log: the later ones only say that something failed before."""
        for mark in _CAUSE_MARKS:
            for line in self.log_lines(mark):
                return line[line.index(mark) :].removeprefix("bringup.errors.").rstrip(" .")
        return "no error in its log"


def _vllm_command() -> str:
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.exists() else shutil.which("vllm")
    if found is None:
        raise ServeError(
            "there is no vllm command",
            "vLLM installed in this environment",
            "install vLLM (on Ascend: vllm and vllm-ascend; on a CPU: `make demo` sets it up)",
        )
    return found


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _group_exists(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _shared_memory(group: int) -> set[Path]:
    """What the ranks of this process group share on a CPU, by the names that vLLM gives it."""
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(entry.name)) == group:
                lines = (entry / "maps").read_text().splitlines()
                found |= {Path("/", *line.split("/")[1:]) for line in lines if _SEGMENT in line}
        except OSError:  # it has ended, or is another user's
            continue
    return {path for path in found if path.parent == Path("/dev/shm") and path.exists()}
