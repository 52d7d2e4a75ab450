# SPDX-License-Identifier: Apache-2.0
"""What is to be validated, and how far."""

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.checkpoint_report import CheckpointReport
from vllm_ascend_bringup.tools.validate.arguments import decided, has, value_of
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT

PLATFORM = "VLLM_ASCEND_BRINGUP_PLATFORM"


@dataclass(frozen=True)
class ValidateRequest:
    """``arguments``: of ``vllm serve``, as the user gave them. ``logs``: folder for servers' logs.

    ``dummy``: whether stage A is run. ``random_weights``: the model was never trained, so what it
    says is not judged. ``phase_seconds``, ``start_seconds``: how long a start may stand still, and
    take in all. ``request_seconds``: how long an answer may take.
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
    say: Callable[[Text], None] = lambda _: None


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
    """The same choices as the demo's, unless the user made others.

    Raises SettingsError for arguments with which nothing could be proved.
    """
    _refuse(request.arguments)
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


def _refuse(arguments: Sequence[str]) -> None:
    if value_of(arguments, "--load-format") == "dummy":
        raise SettingsError(
            Text("--load-format dummy", "--load-format dummy"),
            Text("real weights, without which there is no proof", "真实权重，否则无法证明"),
            Text("leave it out: a stage with dummy weights comes first anyway",
                 "去掉该参数：验证本来就会先用虚拟权重运行一次"),
        )  # fmt: skip
    port = value_of(arguments, "--port")
    if port is not None and not (port.isdecimal() and 0 < int(port) < 2**16):
        raise SettingsError(
            Text("--port {port}", "--port {port}").format(port=port),
            Text("a number from 1 to 65535", "1 到 65535 之间的整数"),
            Text("correct it, or leave it out for a free one", "改正端口，或省略以使用空闲端口"),
        )
    if has(arguments, "--uds") or has(arguments, "--ssl-certfile"):
        raise SettingsError(
            Text("--uds or --ssl-certfile", "--uds 或 --ssl-certfile"),
            Text("a server that is asked over plain HTTP", "通过普通 HTTP 访问的服务"),
            Text("leave it out; it changes nothing about the model", "去掉该参数；它与模型无关"),
        )


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
