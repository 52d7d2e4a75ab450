# SPDX-License-Identifier: Apache-2.0
"""On a 310P, CANN or torch_npu is older than what its performance guide was written for.

Signals: versions of the toolkit and of torch-npu.
Source: vllm-ascend's tutorial of the Atlas 300I Duo.
"""

from collections.abc import Iterator, Mapping

from packaging.version import Version

from vllm_ascend_bringup.hardware import CHIPS, Chip
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Component, Package
from vllm_ascend_bringup.tools.doctor.versions import older, package_version

_CANN, _TORCH_NPU = "9.0.0", "2.9.0.post2"


def _judge(chip: Chip, toolkit: Component, packages: Mapping[str, Package]) -> Iterator[Judgement]:
    if chip is not CHIPS["310p"]:
        return
    rows = []
    if older(toolkit.version, _CANN):
        rows.append(_row("CANN toolkit", toolkit.version, _CANN))
    package = packages.get("torch-npu")
    version = package_version(package.version) if package else None
    if version and version < Version(_TORCH_NPU):
        rows.append(_row("torch-npu", str(version), _TORCH_NPU))
    if rows:
        yield warning(*rows, do=Text(
            f"install CANN and NNAL {_CANN} or newer, and torch-npu {_TORCH_NPU} or newer",
            f"请安装 {_CANN} 或更新的 CANN 和 NNAL，以及 {_TORCH_NPU} 或更新的 torch-npu",
        ))  # fmt: skip


def _row(name: str, found: str, wanted: str) -> Evidence:
    return Evidence(name, found, Text(f"{wanted} or newer", f"{wanted} 或更新"))


RULE = Rule("cann-310p", Text("software of a 310P", "310P 的配套软件"), _judge)
