# SPDX-License-Identifier: Apache-2.0
"""`bringup demo` as a user runs it, and that it leaves no server behind, however it ends."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vllm_ascend_bringup.tools.demo.facts import FACTS

BRINGUP = str(Path(sys.executable).with_name("bringup"))

pytestmark = pytest.mark.engine


def servers(report: Path) -> list[int]:
    """Processes whose command line or log file belongs to a demo with this report folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            targets = {os.readlink(entry / "fd" / fd) for fd in ("1", "2")}
        except OSError:
            continue
        if str(report / "server.log") in targets:
            found.append(int(entry.name))
    return found


def test_demo_answers_right_and_leaves_a_report_and_no_process(tmp_path: Path) -> None:
    done = subprocess.run(
        [BRINGUP, "demo", "--json", "--output", str(tmp_path)], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    content = json.loads(done.stdout)
    assert content["schema_version"] == 1
    assert content["passed"] is True
    assert len(content["answers"]) == len(FACTS)
    (japan,) = [a for a in content["answers"] if a["question"] == "What is the capital of Japan?"]
    assert "Tokyo" in japan["text"]
    assert "vllm serve" in content["serve_command"]
    assert "decoded 2949120 of 2949120 elements" in content["decoding"][0]
    assert json.loads((tmp_path / "report.json").read_text()) == content
    assert "The capital of Japan is Tokyo." in (tmp_path / "report.html").read_text()
    assert servers(tmp_path) == []


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT])
def test_demo_that_is_stopped_leaves_no_server(tmp_path: Path, end: signal.Signals) -> None:
    demo = subprocess.Popen(
        [BRINGUP, "demo", "--output", str(tmp_path)], stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while len(servers(tmp_path)) < 2:  # the API server and at least one process it started
        assert time.monotonic() < deadline, "the server never started"
        assert demo.poll() is None
        time.sleep(0.2)
    demo.send_signal(end)
    demo.wait(60)
    deadline = time.monotonic() + 60
    while servers(tmp_path):
        assert time.monotonic() < deadline, f"still running: {servers(tmp_path)}"
        time.sleep(0.2)
