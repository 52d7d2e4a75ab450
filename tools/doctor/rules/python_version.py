# SPDX-License-Identifier: Apache-2.0
"""This Python is not one that the installed packages are for.

Signals: Requires-Python of vllm, vllm-ascend and torch-npu, against the running interpreter.
Source: the installed packages' metadata.
"""

from collections.abc import Iterator, Mapping

from packaging.specifiers import SpecifierSet

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Package


def _judge(packages: Mapping[str, Package], python_version: str) -> Iterator[Judgement]:
    for name in ("vllm", "vllm-ascend", "torch-npu"):
        wanted = packages[name].requires_python if name in packages else None
        if wanted and not SpecifierSet(wanted).contains(python_version, True):
            expected = Text(f"{wanted}, for {name}", f"{wanted}（{name} 的要求）")
            yield error(Evidence("Python", python_version, expected), do=Text(
                "make an environment with such a Python and install the packages there",
                "请用符合要求的 Python 新建环境并重新安装",
            ))  # fmt: skip


RULE = Rule("python-version", Text("Python's version", "Python 版本"), _judge)
