# SPDX-License-Identifier: Apache-2.0
"""Who listens on which port, and which vLLM servers run; read from /proc, ended by nobody here."""

import contextlib
import os
import re
from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import Listener, Process, Unknown
from vllm_ascend_bringup.tools.doctor.machine import Machine

_LISTENS = "0A"  # TCP_LISTEN (include/net/tcp_states.h), as /proc/net/tcp prints it
# vLLM names its processes VLLM::EngineCore, VLLM::Worker_TP0 and so on; MindIE has a daemon.
_SERVER = re.compile(
    r"^VLLM::|(^|/)vllm\0serve(\0|$)|\0vllm\.entrypoints\.(openai\.api_server|cli\.main)(\0|$)"
    r"|(^|/)mindieservice_daemon(\0|$)"
)


def read_listeners(machine: Machine) -> tuple[Listener, ...] | Unknown:
    """TCP ports of this network namespace on which somebody listens, and who."""
    inodes: dict[str, int] = {}
    tables = [machine.text(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    if not any(tables):
        return Unknown(Text("/proc/net/tcp cannot be read", "无法读取 /proc/net/tcp"))
    for table in filter(None, tables):
        for line in table.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[3] == _LISTENS:
                inodes[f"socket:[{fields[9]}]"] = int(fields[1].rpartition(":")[2], 16)
    holders = _holders(machine, set(inodes))
    found = {
        port: Listener(port, holders.get(inode, Process(None, "")))
        for inode, port in inodes.items()
    }
    return tuple(found[port] for port in sorted(found))


def read_servers(machine: Machine) -> tuple[Process, ...] | Unknown:
    """Processes that look like a server, this one and those that started it aside."""
    own = _ancestors(machine)
    found = []
    for pid in _pids(machine):
        command = machine.text(f"/proc/{pid}/cmdline") or ""
        if pid not in own and _SERVER.search(command):
            found.append(Process(pid, _readable(command)))
    return tuple(found)


def _holders(machine: Machine, inodes: set[str]) -> dict[str, Process]:
    found: dict[str, Process] = {}
    for pid in _pids(machine) if inodes else []:
        for link in inodes.intersection(_open_files(machine, pid)):
            found[link] = Process(pid, _readable(machine.text(f"/proc/{pid}/cmdline") or ""))
    return found


def _open_files(machine: Machine, pid: int) -> Iterator[str]:
    """What a process has open; nothing of one that is gone or another user's."""
    folder = machine.file(f"/proc/{pid}/fd")
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            with contextlib.suppress(OSError):  # closed since, as the listing itself is
                yield os.readlink(folder / name)


def _ancestors(machine: Machine) -> set[int]:
    found, pid = set(), os.getpid()
    while pid > 1 and pid not in found:
        found.add(pid)
        # Behind the name, which is in parentheses and may hold anything: state, parent.
        stat = (machine.text(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
        pid = int(stat[1]) if len(stat) > 1 else 0
    return found


def _pids(machine: Machine) -> list[int]:
    folder = machine.file("/proc")
    names = os.listdir(folder) if folder.is_dir() else []
    return sorted(int(name) for name in names if name.isdecimal())


def _readable(command: str) -> str:
    return command.strip("\0").replace("\0", " ")[:120]
