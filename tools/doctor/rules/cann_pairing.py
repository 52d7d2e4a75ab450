# SPDX-License-Identifier: Apache-2.0
"""CANN's toolkit and NNAL are of different versions.

Signals: the versions in the files that their installers leave. They are released together; a
different pair shows as undefined symbols, or as operators that are not there.
Source: vllm-ascend's docs/source/installation.md, which asks for the same version of both.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Component
from vllm_ascend_bringup.tools.doctor.versions import ascend_version


def _judge(toolkit: Component, nnal: Component) -> Iterator[Judgement]:
    if ascend_version(toolkit.version) == ascend_version(nnal.version):
        return
    expected = Text(
        f"{toolkit.version}, as the CANN toolkit", f"{toolkit.version}，与 CANN toolkit 一致"
    )
    yield warning(
        Evidence(Text(f"NNAL ({nnal.file})", f"NNAL 版本（{nnal.file}）"), nnal.version, expected),
        do=Text(f"install NNAL {toolkit.version} and source its set_env.sh",
                f"请安装 NNAL {toolkit.version} 并重新 source 其 set_env.sh"),
    )  # fmt: skip


RULE = Rule("cann-pairing", Text("CANN against NNAL", "CANN 与 NNAL 配套"), _judge)
