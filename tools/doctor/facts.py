# SPDX-License-Identifier: Apache-2.0
"""Everything that the doctor gathers, as data. Sizes are in bytes unless a name says otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass

from vllm_ascend_bringup.hardware import Chip
from vllm_ascend_bringup.language import Text


@dataclass(frozen=True)
class Unknown:
    """Why a fact could not be checked, and where or how it could be."""

    reason: Text


@dataclass(frozen=True)
class Request:
    """What is to be served: ``tp`` ranks in all, on ``nodes`` machines, behind ``port``."""

    model: str | None = None
    tp: int = 1
    nodes: int = 1
    port: int = 8000

    @property
    def ranks(self) -> int:
        """Processes of the model on this machine."""
        return -(-self.tp // self.nodes)


@dataclass(frozen=True)
class Answer:
    """What a command did. ``code``: of its exit; None if it was stopped after ``seconds``."""

    command: str
    code: int | None
    output: str
    seconds: float


@dataclass(frozen=True)
class Npu:
    """One chip as ``npu-smi info`` lists it; memory in MiB."""

    card: int
    chip: int
    name: str
    health: str
    used_mib: int
    memory_mib: int


@dataclass(frozen=True)
class NpuProcess:
    """A process on a chip; memory in MiB."""

    card: int
    chip: int
    pid: int
    name: str
    used_mib: int


@dataclass(frozen=True)
class Firmware:
    """``compatible``: what npu-smi says of firmware and driver together, if it says so."""

    version: str
    compatible: str | None


@dataclass(frozen=True)
class Component:
    """CANN's toolkit, NNAL or the driver. ``sourced``: the variable of its set_env.sh, if set."""

    version: str
    file: str
    sourced: str | None = None


@dataclass(frozen=True)
class Library:
    """A shared library in a process of its own. ``error``: the loader's; None if it loads."""

    name: str
    error: str | Text | None


@dataclass(frozen=True)
class Package:
    """An installed distribution. ``editable``: the folder that an editable install points to."""

    name: str
    version: str
    requires: tuple[str, ...] = ()
    requires_python: str | None = None
    editable: str | None = None


@dataclass(frozen=True)
class Imported:
    """``import vllm`` in a process of its own. ``error``: its last line, None if it succeeds."""

    version: str | None
    file: str | None
    error: str | Text | None


@dataclass(frozen=True)
class Origin:
    """Where a package comes from: for console scripts, and for what looks in ``folder`` first.

    ``python -m`` and ``python script.py`` look in a folder first. Files of ``__init__``; a folder
    with a slash at its end is a package without one, and None is no package.
    """

    package: str
    installed: str | None
    here: str | None
    folder: str


@dataclass(frozen=True)
class AscendSource:
    """What the installed vllm-ascend says of itself, read from its files.

    ``asks_for``: versions of vLLM for which it has code. ``flashcomm1``: the switches it reads:
    "environment", "additional_config". ``compiled``: whether its own operators were built.
    ``device_type``: what it was built for, as in hardware.py.
    """

    asks_for: tuple[str, ...]
    flashcomm1: tuple[str, ...]
    compiled: bool
    device_type: str | None


@dataclass(frozen=True)
class Script:
    """A console script on PATH and the interpreter that its first line names."""

    name: str
    file: str
    interpreter: str


@dataclass(frozen=True)
class DeviceFiles:
    """Below /dev. ``container``: what kind this runs in, None if none is seen."""

    cards: tuple[str, ...]
    missing: tuple[str, ...]
    closed: tuple[str, ...]
    container: str | None


@dataclass(frozen=True)
class Space:
    """Of /dev/shm."""

    total: int
    free: int


@dataclass(frozen=True)
class Process:
    """``pid`` is None where /proc does not say who it is."""

    pid: int | None
    command: str


@dataclass(frozen=True)
class Listener:
    """A TCP port in use and who listens there."""

    port: int
    holder: Process


@dataclass(frozen=True)
class ModelFiles:
    """The directory of a checkpoint.

    ``weights``: bytes of weight files. ``closed``: files that this user cannot read. ``modes``: of
    config.json and tokenizer files, such as 0o640. ``ranks``: of the tensor parallel size that
    sharded_state files were saved for; 0 if there are none. ``missing_ranks``: of those.
    ``quantization``: as ModelSlim's description names it, such as "W8A8SC". ``audio``: it has an
    encoder for sound. ``transformers``: the version that wrote config.json.
    """

    path: str
    weights: int
    has_config: bool
    closed: tuple[str, ...]
    modes: Mapping[str, int]
    ranks: int
    missing_ranks: tuple[int, ...]
    quantization: str | None
    experts: int
    audio: bool
    transformers: str | None


@dataclass(frozen=True)
class OwnState:
    """Of this plugin. ``setting``: what is wrong with its variables: found, expected, to do.

    ``registered``: its entry points that this environment has. ``misfits``: patches in force that
    do not fit, with their state.
    """

    setting: tuple[Text, Text, Text] | None
    registered: tuple[str, ...]
    misfits: Mapping[str, str]


@dataclass(frozen=True)
class Facts:
    """All of them. A field is None where it could not be checked; ``unknown`` says why."""

    request: Request
    environ: Mapping[str, str]
    python: str
    python_version: str
    unknown: Mapping[str, Text]
    smi: Answer | None = None
    npus: tuple[Npu, ...] | None = None
    npu_processes: tuple[NpuProcess, ...] | None = None
    chip: Chip | None = None
    firmware: Firmware | None = None
    driver: Component | None = None
    toolkit: Component | None = None
    nnal: Component | None = None
    libraries: tuple[Library, ...] | None = None
    packages: Mapping[str, Package] | None = None
    imported: Imported | None = None
    origins: tuple[Origin, ...] | None = None
    ascend: AscendSource | None = None
    triton: tuple[str, ...] | None = None
    scripts: tuple[Script, ...] | None = None
    device_files: DeviceFiles | None = None
    shared_memory: Space | None = None
    memory: int | None = None
    cores: int | None = None
    listeners: tuple[Listener, ...] | None = None
    servers: tuple[Process, ...] | None = None
    model: ModelFiles | None = None
    own: OwnState | None = None
