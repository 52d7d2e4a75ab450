# SPDX-License-Identifier: Apache-2.0
"""Gathers all facts, what is slow side by side."""

import platform
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor import cann, host, npu_smi, packages, processes
from vllm_ascend_bringup.tools.doctor.environment import read_environment
from vllm_ascend_bringup.tools.doctor.facts import Facts, Firmware, Request, Unknown
from vllm_ascend_bringup.tools.doctor.machine import Machine
from vllm_ascend_bringup.tools.doctor.model_files import read_model
from vllm_ascend_bringup.tools.doctor.own_state import read_own_state

_NOT_ASCEND = Unknown(Text(
    "nothing of Ascend is on this machine (no /dev/davinci*, driver, CANN or torch_npu): run this "
    "where the model is to be served",
    "本机没有任何昇腾组件（没有 /dev/davinci*、驱动、CANN 和 torch_npu）：请在部署模型的机器上"
    "运行本命令",
))  # fmt: skip
_NO_DRIVER = Unknown(Text(
    "neither /usr/local/Ascend/driver/version.info nor npu-smi says it: mount them into the "
    "container, or run this on the host",
    "/usr/local/Ascend/driver/version.info 和 npu-smi 都无法给出版本：请将其挂载到容器中，"
    "或在宿主机上运行本命令",
))  # fmt: skip
_NO_FIRMWARE = Unknown(Text(
    "npu-smi info -t board does not say it: run that on the host",
    "npu-smi info -t board 没有给出版本：请在宿主机上执行该命令",
))  # fmt: skip


def gather(request: Request, machine: Machine | None = None) -> Facts:
    """Seconds where there is no NPU. No process outlives it but one that its driver holds."""
    machine = machine or Machine()
    with ThreadPoolExecutor(max_workers=6) as pool:
        try:
            found = _gather(request, machine, pool)
        except BaseException:  # an interruption: it does not reach the sessions of the commands
            pool.shutdown(wait=False, cancel_futures=True)
            machine.stop()
            raise
    if not _of_ascend(found):
        found |= dict.fromkeys(("device_files", "libraries", "toolkit", "nnal", "driver",
                                "firmware", "ascend"), _NOT_ASCEND)  # fmt: skip
    unknown = {name: value.reason for name, value in found.items() if isinstance(value, Unknown)}
    return Facts(
        request=request, environ=read_environment(machine.environ), python=machine.python,
        python_version=platform.python_version(), unknown=unknown,
        **{name: None if name in unknown else value for name, value in found.items()},
    )  # fmt: skip


def _gather(request: Request, machine: Machine, pool: ThreadPoolExecutor) -> dict[str, Any]:
    importing = pool.submit(packages.import_vllm, machine)
    smi = pool.submit(_npu, machine)
    libraries = [pool.submit(cann.load_library, machine, name) for name in cann.LIBRARIES]
    found: dict[str, Any] = {
        "packages": packages.read_packages(machine),
        "triton": packages.read_triton(machine),
        "scripts": packages.read_scripts(machine),
        "device_files": host.read_device_files(machine),
        "shared_memory": host.read_shared_memory(machine),
        "memory": host.read_memory(machine),
        "cores": host.read_cores(machine),
        "listeners": processes.read_listeners(machine),
        "servers": processes.read_servers(machine),
        "toolkit": cann.read_toolkit(machine),
        "nnal": cann.read_nnal(machine),
        "model": read_model(request.model),
        "own": read_own_state(machine),
    }
    found |= smi.result()
    found["libraries"] = tuple(map(Future.result, libraries))
    found["imported"], found["origins"] = importing.result()
    found["ascend"] = packages.read_ascend(found["origins"])
    return found


def _npu(machine: Machine) -> dict[str, Any]:
    """All that npu-smi and the driver's files say; the second question waits for the first."""
    answer = npu_smi.ask(machine)
    npus = npu_smi.read_npus(answer)
    board = npu_smi.ABSENT if isinstance(npus, Unknown) else npu_smi.ask(
        machine, "-t", "board", "-i", str(npus[0].card)
    )  # fmt: skip
    firmware: Firmware | Unknown | None = npu_smi.read_firmware(board)
    return {
        "smi": answer,
        "npus": npus,
        "npu_processes": npu_smi.read_processes(answer),
        "chip": npu_smi.read_chip(npus),
        "driver": cann.read_driver(machine) or npu_smi.read_driver(answer) or _NO_DRIVER,
        "firmware": firmware or cann.read_firmware(machine) or _NO_FIRMWARE,
    }


def _of_ascend(found: dict[str, Any]) -> bool:
    """Whether anything of Ascend is here, so that the rest of it is missed rather than unknown."""
    known = ("smi", "toolkit", "nnal", "driver")
    return (
        any(not isinstance(found[name], Unknown) for name in known)
        or bool(found["device_files"].cards)
        or not {"torch-npu", "vllm-ascend"}.isdisjoint(found["packages"])
    )
