# SPDX-License-Identifier: Apache-2.0
"""Gathering as a whole: what runs side by side, and an interruption in the middle of it."""

import threading
import time
from pathlib import Path

import pytest
from doctor_kit import Recorded

from vllm_ascend_bringup.tools.doctor import gathering
from vllm_ascend_bringup.tools.doctor.facts import Request
from vllm_ascend_bringup.tools.doctor.machine import Machine


def test_stopping_ends_a_command_at_once(tmp_path: Path) -> None:
    machine = Machine(folder=tmp_path)
    command = ["/bin/sh", "-c", "echo begun > begun; sleep 1234"]
    codes: list[int | None] = []
    thread = threading.Thread(target=lambda: codes.append(machine.run(command, 60).code))
    thread.start()
    deadline = time.monotonic() + 30
    while not (tmp_path / "begun").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    machine.stop()
    thread.join(30)
    assert not thread.is_alive()
    assert codes == [-9]


def test_an_error_ends_what_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a2 = Recorded("a2", tmp_path)
    a2.command("npu-smi", f"#!/bin/sh\necho $$ > {a2.root}/pid\nsleep 1234\n")

    def interrupted(*_: object) -> None:
        deadline = time.monotonic() + 30
        while not (a2.root / "pid").exists() or not (a2.root / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        raise KeyboardInterrupt

    monkeypatch.setattr(gathering, "read_own_state", interrupted)
    monkeypatch.setattr("vllm_ascend_bringup.tools.doctor.npu_smi.NPU_SMI_SECONDS", 60.0)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        a2.facts(Request())
    assert time.monotonic() - started < 30
    pid = int((a2.root / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()


def test_what_starts_while_it_stops_is_stopped_too(tmp_path: Path) -> None:
    machine = Machine(folder=tmp_path)
    machine.stop()
    started = time.monotonic()
    assert machine.run(["/bin/sleep", "1234"], 60).code == -9
    assert time.monotonic() - started < 30
