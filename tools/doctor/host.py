# SPDX-License-Identifier: Apache-2.0
"""The host: device files, shared memory, free memory, cores; within the limits of a container."""

import os
import re

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import DeviceFiles, Space, Unknown
from vllm_ascend_bringup.tools.doctor.machine import Machine

# What vllm-ascend's installation guide mounts besides the cards.
_BESIDE_CARDS = ("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc")
_CARD = re.compile(r"davinci\d+")
_IN_CONTAINER = re.compile(r"docker|kubepods|containerd|libpod|lxc")
# Two layouts of control groups: limit, use, and statistics for what of the use is page cache.
_MEMORY_GROUPS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
_CPU_GROUP = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")  # one file in the newer layout
_GROUPS = "/sys/fs/cgroup"


def read_device_files(machine: Machine) -> DeviceFiles:
    """Cards by name, and which of what they need is missing or closed to this user."""
    folder = machine.file("/dev")
    names = os.listdir(folder) if folder.is_dir() else []
    cards = sorted(f"/dev/{name}" for name in names if _CARD.fullmatch(name))
    there = [file for file in (*cards, *_BESIDE_CARDS) if machine.file(file).exists()]
    closed = (file for file in there if not os.access(machine.file(file), os.R_OK | os.W_OK))
    missing = tuple(file for file in _BESIDE_CARDS if file not in there)
    return DeviceFiles(tuple(cards), missing, tuple(closed), _container(machine))


def read_shared_memory(machine: Machine) -> Space | Unknown:
    """Of /dev/shm, through which vLLM's processes pass tensors."""
    try:
        stat = os.statvfs(machine.file("/dev/shm"))
    except OSError:
        return Unknown(Text("there is no /dev/shm", "没有 /dev/shm"))
    return Space(stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize)


def read_memory(machine: Machine) -> int | Unknown:
    """Bytes that can still be had: the kernel's estimate, or what the container's limit leaves."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", machine.text("/proc/meminfo") or "", re.M)
    if match is None:
        return Unknown(Text("/proc/meminfo cannot be read", "无法读取 /proc/meminfo"))
    available = int(match[1]) * 1024
    for limit, use, statistics in _MEMORY_GROUPS:
        bound, used = (_number(machine.text(f"{_GROUPS}/{name}")) for name in (limit, use))
        if bound is not None and used is not None:
            cache = re.search(
                r"^(?:total_)?inactive_file (\d+)",
                machine.text(f"{_GROUPS}/{statistics}") or "", re.M,
            )  # fmt: skip
            available = min(available, bound - used + (int(cache[1]) if cache else 0))
    return available


def read_cores(machine: Machine) -> int | Unknown:
    """Cores that this process may use, by affinity and by the container's share."""
    status = machine.text("/proc/self/status") or ""
    match = re.search(r"^Cpus_allowed_list:\s+(\S+)", status, re.M)
    if match is None:
        return Unknown(Text("/proc/self/status cannot be read", "无法读取 /proc/self/status"))
    cores = 0
    for part in match[1].split(","):
        first, _, last = part.partition("-")
        cores += int(last or first) - int(first) + 1
    both = machine.text(f"{_GROUPS}/cpu.max") or " ".join(
        machine.text(f"{_GROUPS}/{name}") or "" for name in _CPU_GROUP
    )
    quota, period = (*map(_number, both.split()), None, None)[:2]
    return min(cores, max(1, quota // period)) if quota and period else cores


def _container(machine: Machine) -> str | None:
    if machine.file("/.dockerenv").exists():
        return "docker"
    if machine.file("/run/.containerenv").exists():
        return "podman"
    match = _IN_CONTAINER.search(machine.text("/proc/1/cgroup") or "")
    return match[0] if match else None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.strip().isdecimal() else None
