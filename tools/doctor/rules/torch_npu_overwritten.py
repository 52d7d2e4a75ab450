# SPDX-License-Identifier: Apache-2.0
"""torch_npu is not the one that vllm-ascend requires, or not there.

Signals: version of torch-npu against vllm-ascend's requirement. Installing vllm-ascend replaces a
torch_npu of one's own, so a custom one has to be installed after it; then this is a note that it is
in place.
Source: Requires-Dist of the installed vllm-ascend; its docs/source/faqs.md on a custom torch_npu.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import (
    Evidence,
    Judgement,
    Rule,
    error,
    note,
    warning,
)
from vllm_ascend_bringup.tools.doctor.facts import Package
from vllm_ascend_bringup.tools.doctor.versions import package_version, required, satisfies

_NAME = "torch-npu"
_MISSING = Text("not installed", "未安装")


def _judge(packages: Mapping[str, Package]) -> Iterator[Judgement]:
    plugin, installed = packages.get("vllm-ascend"), packages.get(_NAME)
    wanted = required(plugin.requires, _NAME) if plugin else []
    if not wanted:
        return
    install = Text(f"pip install '{wanted[0]}'", f"执行 pip install '{wanted[0]}'")
    expected = str(wanted[0].specifier)
    if installed is None:
        yield error(Evidence(_NAME, _MISSING, expected), do=install)
    elif not satisfies(installed.version, wanted[0]):
        version = package_version(installed.version)
        severity = note if version is None or version.local else warning  # somebody's own build
        yield severity(Evidence(_NAME, installed.version, expected), do=Text(
            f"if it is meant, install it after vllm-ascend, which replaces it; else: pip install "
            f"'{wanted[0]}'",
            f"如果这是特意安装的版本，请在安装 vllm-ascend 之后再安装它，否则会被覆盖；"
            f"如果不是，请执行 pip install '{wanted[0]}'",
        ))  # fmt: skip


RULE = Rule("torch-npu-overwritten", Text("torch_npu", "torch_npu 版本"), _judge)
