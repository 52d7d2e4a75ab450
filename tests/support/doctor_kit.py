# SPDX-License-Identifier: Apache-2.0
"""Recorded machines for the doctor, and facts for a single rule.

A recorded machine runs through the doctor's own gathering: its files are files below a root, and
its commands are real scripts on its PATH, which print what is recorded.
"""

import dataclasses
import json
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Finding, Rule
from vllm_ascend_bringup.tools.doctor.catalog import RULES
from vllm_ascend_bringup.tools.doctor.facts import Facts, OwnState, Request, Space
from vllm_ascend_bringup.tools.doctor.gathering import gather
from vllm_ascend_bringup.tools.doctor.machine import Machine

RECORDED = Path(__file__).resolve().parents[1] / "data" / "doctor"
MACHINES = ("a2", "a3", "310p")

_REPLAY = """#!/bin/sh
name=$(basename "$0")
if [ "$name" = python ]; then
    while [ "${1#-}" != "$1" ]; do shift; done
    first=$(basename "$1"); shift
    set -- "$first" "$@"
fi
exec sed "s|@SITE@|<site>|g" "<commands>/$name $*.txt"
"""
_SOURCE = {
    "vllm_ascend/__init__.py": "",
    "vllm_ascend/envs.py": '"VLLM_ASCEND_ENABLE_FLASHCOMM1": lambda: 0\n',
    "vllm_ascend/ascend_config.py": 'additional_config.get("enable_flashcomm1")\n',
    "vllm_ascend/utils.py": 'vllm_version_is("0.23.0")\n',
    "vllm_ascend/vllm_ascend_C.cpython-312-aarch64-linux-gnu.so": "",
    "vllm/__init__.py": "",
    "vllm_ascend_bringup/__init__.py": "",
}
_ENTRY_POINTS = {
    "vllm-ascend": "[vllm.platform_plugins]\nascend = vllm_ascend:register\n",
    "vllm-ascend-bringup": (
        "[vllm.general_plugins]\nascend_bringup = vllm_ascend_bringup.plugin:register\n"
        "[vllm.platform_plugins]\nascend_bringup = vllm_ascend_bringup.plugin:platform\n"
    ),
}


class Recorded:
    """A copy of a recorded machine in ``folder``, for a test to change before it is examined."""

    def __init__(self, name: str, folder: Path) -> None:
        shutil.copytree(RECORDED / name, folder, dirs_exist_ok=True)
        self.root, self.commands, self.site = (folder / n for n in ("root", "commands", "site"))
        self.bin = folder / "bin"
        content = json.loads((folder / "machine.json").read_text())
        self.environ: dict[str, str] = content["environ"]
        self.packages: dict[str, Any] = content["packages"]
        self.device_type: str = content["device_type"]
        self.replaced: dict[str, Any] = {"shared_memory": Space(64 << 30, 64 << 30)}
        devices = (f"davinci{number}" for number in range(content["cards"]))
        for device in (*devices, "davinci_manager", "devmm_svm", "hisi_hdc"):
            self.write(f"dev/{device}", "")
        self.command("npu-smi", _REPLAY)
        self.command("python", _REPLAY)
        for script in ("vllm", "pip"):
            self.command(script, f"#!{self.bin / 'python'}\n")

    def write(self, path: str, content: str) -> None:
        """A file of the machine."""
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(content)

    def remove(self, pattern: str) -> None:
        """Files of the machine; there has to be one."""
        found = list(self.root.glob(pattern))
        assert found, pattern
        for file in found:
            shutil.rmtree(file) if file.is_dir() else file.unlink()

    def command(self, name: str, script: str) -> None:
        """A command on its PATH."""
        self.bin.mkdir(exist_ok=True)
        script = script.replace("<site>", str(self.site))
        file = self.bin / name
        file.write_text(script.replace("<commands>", str(self.commands)))
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def says(self, command: str, output: str) -> None:
        """What a command prints."""
        (self.commands / f"{command}.txt").write_text(output)

    def facts(self, request: Request) -> Facts:
        """Gathered as on any machine; what depends on the host of this test is replaced."""
        self._install()
        path = os.pathsep.join([str(self.bin), "/usr/bin", "/bin"])
        machine = Machine(
            root=self.root, environ={"PATH": path, **self.environ}, folder=self.root,
            python=str(self.bin / "python"), site=[str(self.site)],
        )  # fmt: skip
        facts = gather(request, machine)
        own = dataclasses.replace(facts.own or OwnState(None, (), {}), misfits={})
        return dataclasses.replace(facts, own=own, **self.replaced)

    def _install(self) -> None:
        for name, content in _SOURCE.items():
            (self.site / name).parent.mkdir(parents=True, exist_ok=True)
            (self.site / name).write_text(content)
        build = self.site / "vllm_ascend/_build_info.py"
        build.write_text(f"__device_type__ = '{self.device_type}'\n")
        packages = {**self.packages, "vllm-ascend-bringup": {"version": "0.1.0"}}
        for name, package in packages.items():
            lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {package['version']}"]
            if "requires_python" in package:
                lines.append(f"Requires-Python: {package['requires_python']}")
            lines += [f"Requires-Dist: {required}" for required in package.get("requires", ())]
            folder = self.site / f"{name.replace('-', '_')}-{package['version']}.dist-info"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "METADATA").write_text("\n".join(lines) + "\n")
            (folder / "entry_points.txt").write_text(_ENTRY_POINTS.get(name, ""))


def known(**facts: Any) -> Facts:
    """Facts of which only these are known."""
    given: dict[str, Any] = {
        "request": Request(), "environ": {}, "python": sys.executable, "python_version": "3.11.7",
    }  # fmt: skip
    fields = {field.name for field in dataclasses.fields(Facts)} - {"unknown"}
    reason = Text("not given in this test", "本测试未提供")
    unknown = dict.fromkeys(fields - given.keys() - facts.keys(), reason)
    return Facts(unknown=unknown, **{**given, **facts})


def rule(id_: str) -> Rule:
    """By its id."""
    (found,) = (rule for rule in RULES if rule.id == id_)
    return found


def severities(id_: str, **facts: Any) -> list[str]:
    """What a rule finds in these facts."""
    return [finding.severity for finding in rule(id_).apply(known(**facts))]


def evidence(findings: "tuple[Finding, ...]") -> str:
    """All of it in English, as one text."""
    return "\n".join(
        f"{row.what}: {row.found} / {row.expected}" for f in findings for row in f.evidence
    )


def found(id_: str, **facts: Any) -> str:
    """The evidence of a rule in English; empty if it finds nothing."""
    return evidence(rule(id_).apply(known(**facts)))


def by_id(findings: "tuple[Finding, ...]") -> Mapping[str, str]:
    """Severity by id."""
    return {finding.id: finding.severity for finding in findings}
