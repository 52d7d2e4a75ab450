# SPDX-License-Identifier: Apache-2.0
"""Ascend's software below Python: driver, firmware, CANN's toolkit, NNAL, and their libraries.

Versions come from the files that their installers leave; whether the libraries load is tried in a
process of its own each, because a broken one may take its process with it.
"""

import re
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import Component, Firmware, Library, Unknown
from vllm_ascend_bringup.tools.doctor.machine import Machine, ended

# libascendcl and libhccl are CANN's, libatb is NNAL's.
LIBRARIES = ("libascendcl.so", "libhccl.so", "libatb.so")
LIBRARY_SECONDS = 20.0

_HOME = "/usr/local/Ascend"
_PROBE = Path(__file__).with_name("load_library.py")
_TOOLKIT_HOMES = (f"{_HOME}/ascend-toolkit/latest", f"{_HOME}/cann")
_NNAL_HOME = f"{_HOME}/nnal/atb/latest"
_FIELDS = {
    "ascend_toolkit_install.info": re.compile(r"^version=(\d\S*)", re.MULTILINE),
    "version.cfg": re.compile(r"^toolkit_installed_version=\[[^\]]*:(\d[^\]:]*)\]", re.MULTILINE),
    "nnal": re.compile(r"^\s*Ascend-cann-atb\s*:\s*(\d\S*)\s*$", re.MULTILINE),
    "driver": re.compile(r"^Version=(\d\S*)", re.MULTILINE),
}


def read_toolkit(machine: Machine) -> Component | Unknown:
    """CANN's toolkit: the sourced one, else the one in its usual place."""
    sourced = machine.environ.get("ASCEND_TOOLKIT_HOME") or machine.environ.get("ASCEND_HOME_PATH")
    for home in filter(None, (sourced, *_TOOLKIT_HOMES)):
        for file in (*machine.file(home).glob("*/ascend_toolkit_install.info"),
                     machine.file(home) / "ascend_toolkit_install.info",
                     machine.file(home) / "version.cfg"):  # fmt: skip
            if version := _version(machine, file, _FIELDS[file.name]):
                return Component(version, _named(machine, file), sourced)
    return Unknown(Text(
        f"no CANN toolkit in {sourced or _TOOLKIT_HOMES[0]}",
        f"在 {sourced or _TOOLKIT_HOMES[0]} 中没有找到 CANN toolkit",
    ))  # fmt: skip


def read_nnal(machine: Machine) -> Component | Unknown:
    """NNAL, which brings ATB: the sourced one, else the one in its usual place.

    ATB_HOME_PATH names a folder per C++ ABI, two levels below the file that has the version.
    """
    sourced = machine.environ.get("ATB_HOME_PATH")
    homes = [Path(sourced), *Path(sourced).parents[:2]] if sourced else []
    for home in (*homes, Path(_NNAL_HOME)):
        file = machine.file(home) / "version.info"
        if version := _version(machine, file, _FIELDS["nnal"]):
            return Component(version, _named(machine, file), sourced)
    where = sourced or _NNAL_HOME
    return Unknown(Text(f"no NNAL in {where}", f"在 {where} 中没有找到 NNAL"))


def read_driver(machine: Machine) -> Component | None:
    """From the driver's own file, which containers have to mount."""
    file = machine.file(f"{_HOME}/driver/version.info")
    version = _version(machine, file, _FIELDS["driver"])
    return Component(version, _named(machine, file)) if version else None


def read_firmware(machine: Machine) -> Firmware | None:
    """From the firmware's own file, which containers rarely have."""
    version = _version(machine, f"{_HOME}/firmware/version.info", _FIELDS["driver"])
    return Firmware(version, None) if version else None


def load_library(machine: Machine, name: str) -> Library:
    """Whether the loader finds it and all that it needs, with the environment as it is."""
    answer = machine.run([machine.python, "-I", "-S", str(_PROBE), name], LIBRARY_SECONDS)
    if answer.code == 0:
        return Library(name, None)
    said = answer.output.strip().splitlines()
    return Library(name, said[-1] if answer.code == 1 and said else ended(answer))


def _version(machine: Machine, file: str | Path, pattern: "re.Pattern[str]") -> str | None:
    path = file if isinstance(file, str) else _named(machine, file)
    match = pattern.search(machine.text(path) or "")
    return match[1] if match else None


def _named(machine: Machine, file: Path) -> str:
    """As the machine itself names it."""
    return f"/{file.relative_to(machine.root)}"
