# SPDX-License-Identifier: Apache-2.0
"""One real server: started, watched, questioned, stopped."""

import contextlib
import os
import re
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Finding
from vllm_ascend_bringup.tools.validate.arguments import has, replaced, value_of, without
from vllm_ascend_bringup.tools.validate.checks.base import Rule, Session
from vllm_ascend_bringup.tools.validate.checks.catalog import CHECKS
from vllm_ascend_bringup.tools.validate.client import Client, RefusedError, UnreachableError
from vllm_ascend_bringup.tools.validate.ending import ending, first_error
from vllm_ascend_bringup.tools.validate.request import Setting
from vllm_ascend_bringup.tools.validate.results import Check, Start
from vllm_ascend_bringup.tools.validate.startup import StartTimeout, Startup
from vllm_ascend_bringup.tools.vllm_server import VllmServer

# What ``bringup diagnose`` says where it knows no cause.
INSUFFICIENT = "insufficient-log"
PORT = Text("the port is free", "端口空闲")
START = Text("the server becomes ready", "服务就绪")
# How long a server that fails a request may take to end, or to say that its engine is dead.
_DYING_SECONDS = 10.0
# Between the last answer and the last look at whether it is alive.
_SETTLING_SECONDS = 1.0
_DTYPE = re.compile(r"\bdtype=torch\.(\w+)")


@dataclass(frozen=True)
class Attempt:
    """A server to be tried. ``changed``: what differs from the command that was asked for."""

    stage: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    weights: Literal["dummy", "real"] = "real"
    changed: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = field(default=tuple(CHECKS.values()))


@dataclass
class _Proof:
    """What became of the checks so far. ``label``: of the first that failed."""

    checks: list[Check]
    label: str | None = None
    dead: bool = False


def serve(attempt: Attempt, setting: Setting) -> Start:
    """Never raises for what a server does; nothing of it is left when this returns."""
    started = time.monotonic()
    request = setting.request
    log = _log(request.logs, attempt.stage)
    host = value_of(attempt.arguments, "--host") or "127.0.0.1"
    port = value_of(attempt.arguments, "--port")
    watch = Startup(request.phase_seconds, request.start_seconds)
    server = VllmServer(
        str(request.model), without(attempt.arguments, "--host", "--port"),
        environment={**setting.environment, **attempt.environment}, log=log,
        timeout=request.start_seconds + 60, host=host, port=int(port) if port else None,
        watch=watch,
    )  # fmt: skip
    ready_after: float | None = None
    diagnoses: tuple[Finding, ...] = ()
    if taken := _taken(host, server.port):
        proof = _Proof([Check("port", PORT, "failed", (taken,), "port-in-use")], "port-in-use")
    else:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(server)
            except ServeError as error:
                proof = _failed_start(error, server)
            else:
                watch.read(server)
                ready_after = round(server.seconds_to_ready, 2)
                proof = _prove(attempt, setting, server)
            # While it runs: what a server logs when it is told to stop looks like a failure.
            if proof.label and proof.label != "output-quality":
                found = _diagnose(log)
                # That the log does not say is of use only where nothing else does.
                diagnoses = tuple(f for f in found if f.id != INSUFFICIENT or f.id == proof.label)
    return Start(
        stage=attempt.stage,
        command=_shown(server.command),
        environment={**setting.environment, **attempt.environment},
        changed=attempt.changed,
        state="failed" if proof.label else "passed",
        label=proof.label,
        ready_after=ready_after,
        seconds=round(time.monotonic() - started, 2),
        timeline=watch.timeline(ready_after),
        checks=tuple(proof.checks),
        diagnoses=diagnoses,
        log=str(log),
    )


def _failed_start(error: ServeError, server: VllmServer) -> _Proof:
    lines = server.log.read_text(errors="replace").splitlines()
    if isinstance(error, StartTimeout):
        label = "start-timeout"
    elif ending(lines, server.exit_code) == "killed":
        label = "server-killed"
    else:
        label = _diagnose(server.log)[0].id
    evidence: tuple[Text | str, ...] = (error.args[0],)
    if server.exit_code is not None:
        ended = Text("vllm serve ended with code {code}", "vllm serve 已退出，退出码 {code}")
        evidence = (ended.format(code=server.exit_code), server.cause())
    return _Proof([Check("start", START, "failed", evidence, label)], label)


def _prove(attempt: Attempt, setting: Setting, server: VllmServer) -> _Proof:
    """All checks, until there is no server to ask."""
    said = Text("after {seconds:.1f} s", "用时 {seconds:.1f} 秒")
    said = said.format(seconds=server.seconds_to_ready)
    proof = _Proof([Check("start", START, "passed", (said,), seconds=server.seconds_to_ready)])
    session = Session(
        client=Client(server.url.removesuffix("/v1"), setting.request.request_seconds,
                      _api_key(attempt.arguments)),
        model=setting.report.model,
        folder=setting.request.model,
        arguments=attempt.arguments,
        name=setting.name,
        dtype=next((m[1] for m in map(_DTYPE.search, server.log_lines("dtype=")) if m), ""),
    )  # fmt: skip
    well = server.log.stat().st_size
    for rule in attempt.rules:
        proof.checks.append(_check(rule, attempt, setting, server, session, proof, well))
    if not proof.dead and not _alive(server, session.client, _SETTLING_SECONDS):
        proof.label = proof.label or _death(server, well, session, None)[0]
    return proof


def _check(
    rule: Rule, attempt: Attempt, setting: Setting, server: VllmServer, session: Session,
    proof: _Proof, well: int,
) -> Check:  # fmt: skip
    if proof.dead:
        return Check(rule.id, rule.title, "not-run")
    if rule.needs != "anything" and attempt.weights == "dummy":
        why = Text("with dummy weights an answer means nothing", "虚拟权重下回答没有意义")
        return Check(rule.id, rule.title, "not-applicable", (why,))
    if rule.needs == "trained" and setting.request.random_weights:
        why = Text(
            "the model was never trained (--random-weights)", "模型未经训练（--random-weights）"
        )
        return Check(rule.id, rule.title, "not-applicable", (why,))
    started = time.monotonic()
    evidence: tuple[Text | str, ...]
    try:
        outcome = rule.run(session)
        state, evidence, label = outcome.state, outcome.evidence, outcome.label
    except (RefusedError, UnreachableError) as error:
        state, evidence = "failed", (str(error),)
        if _alive(server, session.client, _DYING_SECONDS):
            label = _refusal(error, server)
        else:
            proof.dead = True
            label, own = _death(server, well, session, rule)
            evidence = (*evidence, *own)
    proof.label = proof.label or label
    proof.dead = proof.dead or (rule.vital and state == "failed")
    return Check(
        rule.id, rule.title, state, evidence, label,
        round(time.monotonic() - started, 2),
    )  # fmt: skip


def _refusal(error: RefusedError | UnreachableError, server: VllmServer) -> str:
    """The label for a request that a server survived."""
    if isinstance(error, UnreachableError):
        return "request-timeout"
    cause = _diagnose(server.log)[0].id
    return "request-failed" if cause == INSUFFICIENT else cause


def _death(
    server: VllmServer, well: int, session: Session, rule: Rule | None
) -> tuple[str, tuple[str, ...]]:
    """For a server that was ready and is dead: the label, and the first error that it logged."""
    with server.log.open("rb") as log:
        log.seek(well)
        lines = log.read().decode(errors="replace").splitlines()
    own = tuple(filter(None, [first_error(lines)]))
    if ending(lines, server.exit_code) == "killed":
        return "server-killed", own
    if session.client.requests == 0 or (rule and rule.first):
        return "false-ready", own
    return _diagnose(server.log)[0].id, own


def _alive(server: VllmServer, client: Client, seconds: float) -> bool:
    """Whether it still says so after a moment; if not, waits for the process to end."""
    deadline = time.monotonic() + seconds
    well_until = time.monotonic() + seconds / 5
    while server.running():
        try:
            client.get("/health")
            if time.monotonic() > well_until:
                return True
        except (RefusedError, UnreachableError):
            if time.monotonic() > deadline:
                return False
        time.sleep(0.2)
    return False


def _diagnose(log: Path) -> tuple[Finding, ...]:
    from vllm_ascend_bringup.tools.diagnose import diagnose

    with log.open(errors="replace") as lines:
        return diagnose(lines)


def _taken(host: str, port: int) -> Text | None:
    """Who would be in the way; None if nobody is. Nothing is asked of who listens there."""
    with socket.socket() as probe:
        # As vLLM does: closed connections of an earlier server may linger.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            said = Text("port {port} on {host}: {why}", "{host} 的端口 {port}：{why}")
            return said.format(port=port, host=host, why=error.strerror)
    return None


def _shown(command: Sequence[str]) -> tuple[str, ...]:
    """For people to read: without keys."""
    for secret in ("--api-key", "--hf-token"):
        if has(command, secret):
            command = replaced(command, secret, "***")
    return tuple(command)


def _api_key(arguments: tuple[str, ...]) -> str | None:
    return value_of(arguments, "--api-key") or os.environ.get("VLLM_API_KEY")


def _log(folder: Path, stage: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    number = 1 + len(list(folder.glob("*.log")))
    return folder / f"{number:02}-{stage}.log"
