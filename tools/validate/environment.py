# SPDX-License-Identifier: Apache-2.0
"""What a validation ran on: versions, platform, chip, memory, cores."""

import os
import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from vllm_ascend_bringup import __version__
from vllm_ascend_bringup.tools.validate.request import Setting

_PACKAGES = ("torch", "torch_npu", "vllm", "vllm-ascend", "transformers", "triton-ascend")


def environment_of(setting: Setting) -> Mapping[str, str]:
    """Names and values; nothing of the machine's name, users or paths."""
    found = {
        "platform": setting.platform,
        "system": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "cores": str(len(os.sched_getaffinity(0))),
        "host memory": f"{_memory() / 2**30:.1f} GiB",
        "python": platform.python_version(),
        "vllm-ascend-bringup": __version__,
    }
    if not setting.cpu and (chip := _chip()):
        found["chip"] = chip
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _memory() -> int:
    """Bytes of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _chip() -> str | None:
    from vllm_ascend_bringup.hardware import installed_chip

    chip = installed_chip()
    return chip.title if chip else None
