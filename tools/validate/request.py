# SPDX-License-Identifier: Apache-2.0
"""What is to be validated, and how far."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vllm_ascend_bringup.language import Language, Text, said
from vllm_ascend_bringup.tools.checkpoint_report import CheckpointReport
from vllm_ascend_bringup.tools.validate.arguments import decided, value_of
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT

PLATFORM = "VLLM_ASCEND_BRINGUP_PLATFORM"


@dataclass(frozen=True)
class ValidateRequest:
    """``arguments``: of ``vllm serve``, as the user gave them. ``logs``: folder for servers' logs.

    ``dummy``: whether stage A is run. ``random_weights``: the model was never trained, so what it
    says is not judged. ``phase_seconds``, ``start_seconds``: how long a start may stand still, and
    take in all. ``request_seconds``: how long an answer may take. ``language``: of the evidence.
    ``say``: told what happens.
    """

    model: Path
    arguments: tuple[str, ...]
    logs: Path
    dummy: bool = True
    ladder: bool = True
    features: bool = False
    capacity: bool = False
    random_weights: bool = False
    phase_seconds: float = 600
    start_seconds: float = 7200
    request_seconds: float = 600
    language: Language = "en"
    say: Callable[[Text], None] = lambda _: None

    def told(self, evidence: Sequence[Text | str]) -> tuple[str, ...]:
        """Evidence in the language of who asked; what is quoted from a log is a plain string."""
        return tuple(str(said(line, self.language)) for line in evidence)


@dataclass(frozen=True)
class Setting:
    """Where and how servers run here. ``cpu``: there is no vllm-ascend.

    ``arguments``: the user's and what the machine needs; ``added``: the latter. ``environment``:
    what servers get beside this process's.
    """

    request: ValidateRequest
    report: CheckpointReport
    cpu: bool
    platform: str
    arguments: tuple[str, ...]
    added: tuple[str, ...]
    environment: Mapping[str, str]

    @property
    def name(self) -> str:
        """What the server calls the model."""
        return value_of(self.arguments, "--served-model-name") or str(self.request.model)


def setting_of(request: ValidateRequest, report: CheckpointReport) -> Setting:
    """The same choices as the demo's, unless the user made others."""
    if find_spec("vllm_ascend") is not None:
        where = os.environ.get(PLATFORM, "auto")
        title = "Ascend" if where == "auto" else f"{where} (Ascend)"
        return Setting(request, report, False, title, request.arguments, (), {})
    where = os.environ.get(PLATFORM, "reference-a2")
    added = _lacking(request.arguments, report.answers.context.default)
    machine = f"CPU, {platform.machine()}"
    return Setting(
        request, report, True, machine if where == "auto" else f"{where} ({machine})",
        (*request.arguments, *added), added,
        {**{k: v for k, v in CPU_ENVIRONMENT.items() if k not in os.environ}, PLATFORM: where},
    )  # fmt: skip


def _lacking(arguments: Sequence[str], context: int) -> tuple[str, ...]:
    """What a small CPU machine needs and the user did not decide."""
    added: list[str] = []
    place = 0
    while place < len(CPU_ARGUMENTS):
        name = CPU_ARGUMENTS[place]
        flag = CPU_ARGUMENTS[place + 1 : place + 2][0].startswith("--")
        value = None if flag else CPU_ARGUMENTS[place + 1]
        place += 1 if flag else 2
        if decided(arguments, name):
            continue
        if name == "--max-model-len" and value and context:
            value = str(min(int(value), context))
        added += [name] if value is None else [name, value]
    return tuple(added)
