# SPDX-License-Identifier: Apache-2.0
"""`bringup doctor` as a command, on this machine: exit codes, JSON, languages, what is missing."""

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from doctor_kit import known
from rich.console import Console

from vllm_ascend_bringup.language import Language
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.doctor import judge
from vllm_ascend_bringup.tools.doctor.npu_smi import NPU_SMI_SECONDS
from vllm_ascend_bringup.tools.doctor.rendering import render_doctor

BRINGUP = str(Path(sys.executable).with_name("bringup"))
NO_NPU = pytest.mark.skipif(
    any(Path("/dev").glob("davinci*")), reason="says what a machine without an NPU says"
)


def bringup(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed command."""
    return subprocess.run(
        [BRINGUP, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def doctor(*arguments: str, **environment: str) -> dict[str, Any]:
    done = bringup("doctor", "--json", *arguments, **environment)
    assert "Traceback" not in done.stderr
    content = json.loads(done.stdout)
    assert done.returncode == (0 if content["passed"] else 12)
    assert isinstance(content, dict)
    return content


def ids(content: dict[str, Any]) -> set[str]:
    return {finding["id"] for finding in content["findings"]}


@NO_NPU
def test_a_machine_without_an_npu() -> None:
    content = doctor("--model", str(CHECKPOINT))
    assert content["schema_version"] == 1
    assert content["command"] == "doctor"
    assert content["passed"] is True
    unchecked = {entry["id"]: entry["reason"]["en"] for entry in content["unchecked"]}
    assert {"npu-smi", "device-files", "driver-min", "env-cann", "build-for-chip"} <= set(unchecked)
    assert "PATH" in unchecked["npu-smi"]
    assert not {"host-memory", "w8a8sc-tp", "port-in-use", "vllm-import"} & set(unchecked)
    facts = content["facts"]
    assert facts["chip"] is None
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", facts["imported"]["version"])
    assert facts["packages"]["torch"]["version"]


def test_it_says_what_it_lacks_the_checkpoint_for() -> None:
    unchecked = {entry["id"]: entry["reason"]["en"] for entry in doctor()["unchecked"]}
    for id_ in ("host-memory", "model-files", "model-perms", "w8a8sc-tp"):
        assert unchecked[id_] == "no checkpoint was named: give --model"


def test_a_taken_port_is_an_error() -> None:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        port = server.getsockname()[1]
        content = doctor("--port", str(port))
        (finding,) = (f for f in content["findings"] if f["id"] == "port-in-use")
    assert finding["severity"] == "error"
    assert finding["evidence"][0]["what"]["en"] == f"who listens on port {port}"
    assert str(os.getpid()) in finding["evidence"][0]["found"]["en"]
    assert "port-in-use" not in ids(doctor("--port", str(port)))


def test_variables_that_cannot_be_right() -> None:
    content = doctor(
        "--tp", "2", PYTORCH_NPU_ALLOC_CONF="expandable_segments:True,max_split_size_mb:256",
        ASCEND_LAUNCH_BLOCKING="1", HCCL_CONNECT_TIMEOUT="60", OMP_NUM_THREADS="1000",
        VLLM_ASCEND_BRINGUP_DEQUANT="sometimes", HCCL_DETERMINISTIC="true",
    )  # fmt: skip
    assert {"alloc-conf", "launch-blocking", "hccl-environment", "omp-threads", "plugin-settings",
            "determinism"} <= ids(content)  # fmt: skip
    assert content["passed"] is False


def test_secrets_stay_where_they_are() -> None:
    done = bringup("doctor", "--json", VLLM_API_KEY="sk-secret-1", HF_TOKEN="hf-secret-2")
    assert "secret" not in done.stdout


def test_chinese_output_is_chinese() -> None:
    done = bringup(
        "doctor", "--lang", "zh", "--tp", "2", "--port", "1", ASCEND_LAUNCH_BLOCKING="1",
        VLLM_ASCEND_BRINGUP_DEQUANT="sometimes", HCCL_BUFFSIZE="0", COLUMNS="200",
    )  # fmt: skip
    assert done.returncode == 12
    assert "错误 [launch-blocking] 同步下发" in done.stdout
    assert "未能检查的项目：" in done.stdout
    assert "msprechecker precheck" in done.stdout
    for line in done.stdout.splitlines():
        if line.startswith("  "):  # evidence, actions, what could not be checked
            assert re.search(r"[\u4e00-\u9fff]", line), line
        assert not re.search(r"\b(the|expected|to do|is|are|not|with)\b", line), line


def test_both_languages_say_the_same() -> None:
    report = judge(known(environ={"ASCEND_LAUNCH_BLOCKING": "1", "HCCL_BUFFSIZE": "0"}))
    languages: tuple[Language, ...] = ("en", "zh")
    found = []
    for language in languages:
        printed = io.StringIO()
        render_doctor(report, Console(file=printed, width=200), language)
        found.append(re.findall(r"\[([a-z0-9-]+)\]|(\d+)", printed.getvalue()))
    assert found[0] == found[1]
    assert ("launch-blocking", "") in found[0]


@pytest.mark.parametrize("arguments", [("--tp", "0"), ("--port", "65536"), ("--nodes", "x")])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    done = bringup("doctor", *arguments)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_folder_named_vllm_where_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").touch()
    done = subprocess.run(
        [BRINGUP, "doctor", "--json"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    (finding,) = (
        f for f in json.loads(done.stdout)["findings"] if f["id"] == "import-shadowing"
    )  # fmt: skip
    assert finding["evidence"][0]["found"] == str(tmp_path / "vllm" / "__init__.py")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_ends_what_was_started(tmp_path: Path, number: signal.Signals) -> None:
    hanging = tmp_path / "npu-smi"
    hanging.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 1234\n")
    hanging.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    process = subprocess.Popen(
        [BRINGUP, "doctor"], env={**os.environ, "PATH": path}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 30
    while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(number)
    started = time.monotonic()
    assert process.wait(30) in (128 + number, 130)
    assert time.monotonic() - started < NPU_SMI_SECONDS - 2
    pid = int((tmp_path / "pid").read_text())
    assert not Path(f"/proc/{pid}").exists()
