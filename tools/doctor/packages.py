# SPDX-License-Identifier: Apache-2.0
"""Python's side of the installation: distributions, where vLLM comes from, what it says of itself.

Nothing of it is imported into this process: ``import vllm`` is slow, and may fail or crash.
"""

import json
import re
from collections.abc import Iterable, Mapping
from importlib.metadata import Distribution, distributions
from pathlib import Path
from urllib.parse import unquote, urlsplit

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import (
    AscendSource,
    Imported,
    Origin,
    Package,
    Script,
    Unknown,
)
from vllm_ascend_bringup.tools.doctor.import_vllm import MARK
from vllm_ascend_bringup.tools.doctor.machine import Machine, ended

# Importing it on an NPU starts its runtime; a minute is slow, two are no start at all.
IMPORT_SECONDS = 120.0
VLLM, VLLM_ASCEND, BRINGUP = "vllm", "vllm_ascend", "vllm_ascend_bringup"

_NAMES = (
    "vllm", "vllm-ascend", "torch", "torch-npu", "torchvision", "torchaudio", "transformers",
    "triton", "triton-ascend", "librosa",
)  # fmt: skip
_TRITON = ("triton", "triton_ascend", "triton-*.dist-info", "triton_ascend-*.dist-info")
_IMPORT = Path(__file__).with_name("import_vllm.py")
_ASKS_FOR = re.compile(r"""vllm_version_is\(["']([^"']+)["']\)""")
_DEVICE_TYPE = re.compile(r"""__device_type__\s*=\s*["'](\w+)["']""")
_FLASHCOMM1 = {
    "environment": ("envs.py", "VLLM_ASCEND_ENABLE_FLASHCOMM1"),
    "additional_config": ("ascend_config.py", '"enable_flashcomm1"'),
}
_NO_VLLM = Unknown(Text(
    "vLLM is not installed for this Python: run bringup with the one that serves",
    "当前 Python 环境没有安装 vLLM：请用提供服务的那个 Python 环境运行 bringup",
))  # fmt: skip
_NO_ASCEND = Unknown(Text(
    "vllm-ascend is not installed for this Python: run bringup with the one that serves",
    "当前 Python 环境没有安装 vllm-ascend：请用提供服务的那个 Python 环境运行 bringup",
))  # fmt: skip


def read_packages(machine: Machine) -> Mapping[str, Package]:
    """Those that have to fit together and are installed, by name."""
    found: dict[str, Package] = {}
    for name in _NAMES:
        for distribution in distributions(name=name, path=list(machine.site)):
            found.setdefault(name, _package(name, distribution))
    return found


def registered(machine: Machine, group: str) -> tuple[str, ...]:
    """Names of the entry points that vLLM finds in a group."""
    points = (
        point.name
        for distribution in distributions(path=list(machine.site))
        for point in distribution.entry_points
        if point.group == group
    )
    return tuple(sorted(set(points)))


def import_vllm(machine: Machine) -> tuple[Imported | Unknown, tuple[Origin, ...] | Unknown]:
    """Try it, and say where it and the plugins come from."""
    packages = (VLLM, VLLM_ASCEND, BRINGUP)
    answer = machine.run([machine.python, str(_IMPORT), *packages], IMPORT_SECONDS)
    lines = [line.removeprefix(MARK) for line in answer.output.splitlines()
             if line.startswith(MARK)]  # fmt: skip
    if not lines:
        reason = Text(
            f"{machine.python} does not run: {answer.output.strip()[-200:]}",
            f"{machine.python} 无法运行：{answer.output.strip()[-200:]}",
        )
        return Unknown(reason), Unknown(reason)
    found = json.loads(lines[0])
    folder = str(machine.folder)
    origins = tuple(
        Origin(name, found["installed"][name], found["here"][name], folder) for name in packages
    )
    if found["installed"][VLLM] is None:
        return _NO_VLLM, origins
    if len(lines) > 1:
        return Imported(**json.loads(lines[1])), origins
    return Imported(None, None, ended(answer)), origins


def read_triton(machine: Machine) -> tuple[str, ...]:
    """What is there of Triton, leftovers of an uninstalled one included."""
    return tuple(sorted({
        str(file)
        for folder in machine.site
        if Path(folder).is_dir()
        for pattern in _TRITON
        for file in Path(folder).glob(pattern)
    }))  # fmt: skip


def read_ascend(origins: tuple[Origin, ...] | Unknown) -> AscendSource | Unknown:
    """From the files of the installed vllm-ascend."""
    if isinstance(origins, Unknown):
        return origins
    init = next((o.installed for o in origins if o.package == VLLM_ASCEND), None)
    if init is None or init.endswith("/"):  # or a folder that an uninstallation left
        return _NO_ASCEND
    folder = Path(init).parent
    asks_for = {
        version
        for file in folder.rglob("*.py")
        for version in _ASKS_FOR.findall(file.read_text(encoding="utf-8", errors="replace"))
    }
    device_type = _DEVICE_TYPE.search(_text(folder / "_build_info.py"))
    return AscendSource(
        asks_for=tuple(sorted(asks_for)),
        flashcomm1=tuple(by for by, (file, word) in _FLASHCOMM1.items()
                         if word in _text(folder / file)),
        compiled=any(folder.glob("vllm_ascend_C*.so")),
        device_type=device_type[1] if device_type else None,
    )  # fmt: skip


def read_scripts(machine: Machine, names: Iterable[str] = ("vllm", "pip")) -> tuple[Script, ...]:
    """Console scripts that a shell would run, with the interpreter of each."""
    found = []
    for name in names:
        file = machine.which(name)
        interpreter = file and _interpreter(machine, Path(file))
        if file and interpreter:
            found.append(Script(name, file, interpreter))
    return tuple(found)


def _interpreter(machine: Machine, file: Path) -> str | None:
    """Of the first line; pip writes a second one where the path is too long for the kernel."""
    with file.open("rb") as stream:
        lines = [stream.readline(4096).decode("utf-8", "replace").strip() for _ in range(2)]
    if not lines[0].startswith("#!"):
        return None
    words = lines[0].removeprefix("#!").split()
    named: str | None = words[0]
    if Path(words[0]).name == "env":
        named = machine.which(words[-1])
    elif Path(words[0]).name == "sh" and lines[1].startswith("'''exec'"):
        named = lines[1].removeprefix("'''exec'").split('"$0"')[0].strip().strip('"')
    return named if named and "python" in Path(named).name else None


def _package(name: str, distribution: Distribution) -> Package:
    metadata = distribution.metadata
    return Package(
        name, distribution.version, tuple(distribution.requires or ()),
        metadata["Requires-Python"], _editable(distribution),
    )  # fmt: skip


def _editable(distribution: Distribution) -> str | None:
    """The folder of an editable install (PEP 610)."""
    content = json.loads(distribution.read_text("direct_url.json") or "{}")
    if not content.get("dir_info", {}).get("editable"):
        return None
    return unquote(urlsplit(content["url"]).path)


def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
