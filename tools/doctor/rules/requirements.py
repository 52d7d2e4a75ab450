# SPDX-License-Identifier: Apache-2.0
"""torch, torchvision, torchaudio or transformers is not the version that vllm-ascend was built for.

Signals: what vllm-ascend's own metadata requires, against what is installed. pip only warns when a
later install breaks such a pair; it shows as undefined symbols or missing attributes.
Source: Requires-Dist of the installed vllm-ascend.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Package
from vllm_ascend_bringup.tools.doctor.versions import required, satisfies

_NAMES = ("torch", "torchvision", "torchaudio", "transformers")
_MISSING = Text("not installed", "未安装")


def _judge(packages: Mapping[str, Package]) -> Iterator[Judgement]:
    plugin = packages.get("vllm-ascend")
    if plugin is None:
        return
    rows, wanted = [], []
    for requirement in required(plugin.requires, *_NAMES):
        installed = packages.get(requirement.name)
        if installed is None or not satisfies(installed.version, requirement):
            found = installed.version if installed else _MISSING
            rows.append(Evidence(requirement.name, found, str(requirement.specifier)))
            wanted.append(f"'{requirement}'")
    if rows:
        yield error(*rows, do=Text(
            f"pip install {' '.join(wanted)} (vllm-ascend {plugin.version} requires it)",
            f"执行 pip install {' '.join(wanted)}（vllm-ascend {plugin.version} 的依赖要求）",
        ))  # fmt: skip


RULE = Rule("requirements", Text("what vllm-ascend requires", "vllm-ascend 的依赖版本"), _judge)
