# SPDX-License-Identifier: Apache-2.0
"""``bringup demo``: serve a small fp8 checkpoint with plain ``vllm serve`` and judge its answers.

When to use it: after installing, to see that the installation works. The checkpoint in
``checkpoint/`` comes from build_checkpoint.py and knows the facts in facts.py, so its answers can
be judged by content.

What it cannot see: speed, and anything about a chip if it ran on a CPU; the report names the
platform.
"""

import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vllm_ascend_bringup import __version__
from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.tools.checkpoint_report import CheckpointReport, report_checkpoint
from vllm_ascend_bringup.tools.demo.facts import FACTS
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

SCHEMA_VERSION = 1
CHECKPOINT = Path(__file__).parent / "checkpoint"
_MODEL_NAME = "demo"
_PLATFORM = "VLLM_ASCEND_BRINGUP_PLATFORM"


@dataclass(frozen=True)
class Answer:
    """One question put to the server. ``right``: the expected word is in the text."""

    question: str
    text: str
    expected: str
    right: bool


@dataclass(frozen=True)
class DemoReport:
    """What the demo did. Times are in seconds."""

    project_version: str
    vllm_version: str | None
    platform: str
    serve_command: str
    checkpoint: CheckpointReport
    decoding: tuple[str, ...]
    answers: tuple[Answer, ...]
    seconds_to_ready: float
    seconds_total: float

    @property
    def passed(self) -> bool:
        """Every answer is right and the plugin decoded the weights."""
        return bool(self.decoding) and all(answer.right for answer in self.answers)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; ``schema_version`` changes when a field changes meaning or goes."""
        head = {"schema_version": SCHEMA_VERSION, "command": "demo", "passed": self.passed}
        return {**head, **asdict(self)}


def run_demo(model: Path, output: Path, say: Callable[[str], None]) -> DemoReport:
    """Inspect, serve, ask, stop. ``output`` gets the server's log; ``say`` prints progress.

    ``model``: the checkpoint, CHECKPOINT or one built by build_checkpoint.py. Without vllm-ascend
    it is served on the reference platform, unless ``VLLM_ASCEND_BRINGUP_PLATFORM`` names another.

    Raises ServeError if the server does not come up, or the openai client is missing.
    """
    if find_spec("openai") is None:
        raise ServeError(
            "the openai client is not installed",
            "the package openai, which the demo asks with",
            "pip install openai",
        )
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    checkpoint = report_checkpoint(model)
    on_ascend = find_spec("vllm_ascend") is not None
    chosen = os.environ.get(_PLATFORM, "auto" if on_ascend else "reference-a2")
    server = VllmServer(
        str(model),
        ("--served-model-name", _MODEL_NAME, *(() if on_ascend else CPU_ARGUMENTS)),
        environment={**({} if on_ascend else CPU_ENVIRONMENT), _PLATFORM: chosen},
        log=output / "server.log",
    )
    serve_command = f"{_PLATFORM}={chosen} {' '.join(server.command)}"
    where = "Ascend (vllm-ascend)" if on_ascend else f"CPU ({platform.machine()})"
    say(f"starting: {serve_command}")
    with server:
        say(f"ready after {server.seconds_to_ready:.0f} s; asking {len(FACTS)} questions")
        answers = tuple(_ask(server.url))
        decoding = tuple(line[line.index("TP rank") :] for line in server.log_lines(": decoded "))
    return DemoReport(
        project_version=__version__,
        vllm_version=checkpoint.vllm_version,
        platform=where if chosen == "auto" else f"{chosen} on {where}",
        serve_command=serve_command,
        checkpoint=checkpoint,
        decoding=decoding,
        answers=answers,
        seconds_to_ready=round(server.seconds_to_ready, 1),
        seconds_total=round(time.monotonic() - started, 1),
    )


def _ask(url: str) -> list[Answer]:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none", timeout=120)
    answers = []
    for fact in FACTS:
        reply = client.chat.completions.create(
            model=_MODEL_NAME,
            messages=[{"role": "user", "content": fact.question}],
            temperature=0,
            max_tokens=32,
        )
        text = (reply.choices[0].message.content or "").strip()
        answers.append(Answer(fact.question, text, fact.keyword, fact.keyword in text))
    return answers
