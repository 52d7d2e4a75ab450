# SPDX-License-Identifier: Apache-2.0
"""CANN is older than the one that this release of vllm-ascend was made with.

Signals: version of the toolkit, version of vllm-ascend. An older one lacks operators and formats.
Source: vllm-ascend's docs/source/community/versioning_policy.md of 2026-08-22, and for 0.26.0rc1
its installation guide. Python's metadata does not have it; other releases are not judged.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Component, Package
from vllm_ascend_bringup.tools.doctor.versions import older

_CANN = {
    "0.16.0rc1": "8.5.1", "0.17.0rc1": "8.5.1", "0.18.0rc1": "8.5.1", "0.18.0": "8.5.1",
    "0.19.1rc1": "8.5.1", "0.20.2rc1": "9.0.0", "0.21.0rc1": "9.0.0", "0.22.1rc1": "9.0.0",
    "0.23.0rc1": "9.0.1", "0.23.0": "9.1.0", "0.26.0rc1": "9.1.0",
}  # fmt: skip


def _judge(toolkit: Component, packages: Mapping[str, Package]) -> Iterator[Judgement]:
    plugin = packages.get("vllm-ascend")
    wanted = _CANN.get(plugin.version) if plugin else None
    if plugin is None or wanted is None or not older(toolkit.version, wanted):
        return
    expected = Text(
        f"{wanted}, for vllm-ascend {plugin.version}",
        f"{wanted}（vllm-ascend {plugin.version} 所需）",
    )
    yield warning(
        Evidence(Text(f"CANN toolkit ({toolkit.file})", f"CANN toolkit 版本（{toolkit.file}）"),
                 toolkit.version, expected),
        do=Text(f"install CANN and NNAL {wanted}, or the vllm-ascend release that goes with "
                f"{toolkit.version}",
                f"请安装 CANN 和 NNAL {wanted}，或改用与 {toolkit.version} 配套的 vllm-ascend"),
    )  # fmt: skip


RULE = Rule("cann-release", Text("CANN against vllm-ascend", "CANN 与 vllm-ascend 配套"), _judge)
