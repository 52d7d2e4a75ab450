# SPDX-License-Identifier: Apache-2.0
"""Real vLLM engines for the tests, each in processes of its own: vLLM leaves state behind, and its
workers may die.
"""

import atexit
import functools
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.tools.engines.engine import ENVIRONMENT, random_prompts

# Rank, ranks, decoded and all elements, weights, what was not lazy.
Decoded = tuple[int, int, int, int, int, str]
_STOP_SECONDS = 30.0


@dataclass(frozen=True)
class Generation:
    """What an engine answered: per prompt the tokens, per token the log-probabilities by id."""

    tokens: list[list[int]]
    logprobs: list[list[dict[str, float]]]
    log: str

    @property
    def decoded(self) -> list[Decoded]:
        """What each rank reported."""
        return decoding_report(self.log)


class EngineError(Exception):
    """The engine's process failed. ``log``: all it printed. ``code``: its exit code."""

    def __init__(self, code: int, log: str) -> None:
        super().__init__(f"exit code {code}: {log[-3000:]}")
        self.code = code
        self.log = log


def decoding_report(log: str) -> list[Decoded]:
    """The loader's one line per rank as numbers, sorted by rank."""
    line = re.compile(
        r"TP rank (\d+) of (\d+): decoded (\d+) of (\d+) elements of (\d+) weights .*"
        r"not lazy: (.*)"
    )
    return sorted((*map(int, found[:5]), found[5].strip()) for found in line.findall(log))


def prompts(vocabulary: int, count: int = 8) -> list[list[int]]:
    """Prompts of 1, 8, 15 ... random token ids."""
    return random_prompts(vocabulary, (1 + 7 * i for i in range(count)))


def run_engine(
    model: Path,
    prompts: Sequence[Sequence[int]],
    *,
    tp: int = 1,
    plugin: bool = True,
    platform: str = "auto",
    tokens: int = 16,
    environment: Mapping[str, str] | None = None,
    **engine: Any,
) -> Generation:
    """Start an engine, continue all prompts greedily in one batch, stop it.

    Its ranks are forked from a process that has imported vLLM, one for each platform. ``plugin``:
    whether ours is loaded; without it this is stock vLLM. ``engine``: more arguments of
    ``vllm.LLM``. Raises EngineError if one of its processes fails. Nothing of it is left running.
    """
    answer, log = _fork_engine(platform, {
        "model": str(model), "prompts": [list(prompt) for prompt in prompts], "tokens": tokens,
        "tp": tp, "plugin": plugin, "environment": dict(environment or {}), "engine": engine,
        "pooling": False,
    })  # fmt: skip
    return Generation(answer["tokens"], answer["logprobs"], log)


def embed(
    model: Path, prompts: Sequence[Sequence[int]], *, platform: str, **engine: Any
) -> list[list[float]]:
    """The vectors of an embedding model. See ``run_engine``."""
    answer, _ = _fork_engine(platform, {
        "model": str(model), "prompts": [list(prompt) for prompt in prompts], "tp": 1,
        "plugin": True, "environment": {}, "engine": engine, "pooling": True,
    })  # fmt: skip
    vectors: list[list[float]] = answer["embeddings"]
    return vectors


def _fork_engine(platform: str, request: Mapping[str, Any]) -> tuple[Any, str]:
    forker = _forker(platform)
    assert forker.stdin
    assert forker.stdout
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        log = Path(scratch, "log")
        forker.stdin.write(json.dumps({**request, "log": str(log)}) + "\n")
        forker.stdin.flush()
        reply = json.loads(forker.stdout.readline())
        text = log.read_text(errors="replace") if log.exists() else ""
    if "error" in reply:
        raise EngineError(1, f"{text}\n{reply['error']}")
    return reply, text


@functools.cache
def _forker(platform: str) -> "subprocess.Popen[str]":
    """One for the session, because vLLM chooses its platform once; it ends when its input does."""
    forker = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("engine_forker.py"))],
        env={**os.environ, "VLLM_ASCEND_BRINGUP_PLATFORM": platform},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip

    @atexit.register
    def end() -> None:
        assert forker.stdin
        forker.stdin.close()
        forker.wait(60)

    return forker


def run_script(
    script: Path,
    request: Mapping[str, Any],
    *,
    plugin: bool = True,
    environment: Mapping[str, str] | None = None,
) -> tuple[Any, str]:
    """``python SCRIPT REQUEST.json ANSWER.json`` in an engine's environment: answer and log."""
    env = {**os.environ, **ENVIRONMENT, **(environment or {})}
    if not plugin:
        env["VLLM_PLUGINS"] = ""
    with tempfile.TemporaryDirectory(prefix="engine-") as scratch:
        asked, answered, logged = (Path(scratch) / n for n in ("ask.json", "answer.json", "log"))
        asked.write_text(json.dumps(request))
        with logged.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, str(script), str(asked), str(answered)], stdout=log,
                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, env=env, cwd=scratch,
                start_new_session=True,
            )  # fmt: skip
        try:
            code = process.wait(300)
            wait_until_left(Path(scratch))
        finally:
            for left in processes_in(Path(scratch)):
                os.kill(left, signal.SIGKILL)
            process.wait()
        text = logged.read_text(errors="replace")
        if code != 0:
            raise EngineError(code, text)
        return json.loads(answered.read_text()), text


def processes_in(folder: Path) -> list[int]:
    """Processes, other than this one, whose working folder is ``folder``.

    Descendants inherit it, whatever they call themselves and whoever adopts them.
    """
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            inside = link.readlink() == folder.resolve()
        except OSError:  # gone in between, or another user's
            continue
        if inside and link.parent.name != str(os.getpid()):
            found.append(int(link.parent.name))
    return found


def wait_until_left(folder: Path) -> None:
    """Wait until no process works in ``folder``; raises AssertionError if some stay."""
    deadline = time.monotonic() + _STOP_SECONDS
    while left := processes_in(folder):
        assert time.monotonic() < deadline, f"still running: {left}"
        time.sleep(0.1)
