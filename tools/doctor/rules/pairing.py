# SPDX-License-Identifier: Apache-2.0
"""vLLM and vllm-ascend are of different releases.

Signals: ``vllm.__version__`` (or VLLM_VERSION, which vllm-ascend believes instead), the version of
vllm-ascend, and the versions of vLLM that its source asks for. A release candidate or post release
of vllm-ascend goes with the vLLM of the same number.
Source: vllm-ascend's docs/source/community/versioning_policy.md; utils.py, vllm_version_is.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import AscendSource, Imported, Package
from vllm_ascend_bringup.tools.doctor.versions import package_version


def _judge(
    imported: Imported,
    packages: Mapping[str, Package],
    environ: Mapping[str, str],
    ascend: AscendSource | None = None,
) -> Iterator[Judgement]:
    plugin = packages.get("vllm-ascend")
    stated = environ.get("VLLM_VERSION") or imported.version
    if plugin is None or stated is None:
        return
    vllm, wanted = package_version(stated), package_version(plugin.version)
    # Rule vllm-version says what to do about a version that is none.
    if vllm is None or wanted is None or vllm.release == wanted.release:
        return
    rows = [Evidence("vllm", stated, Text(
        f"{wanted.base_version}, for vllm-ascend {plugin.version}",
        f"{wanted.base_version}（vllm-ascend {plugin.version} 所需）",
    ))]  # fmt: skip
    asked = ascend.asks_for if ascend else ()
    if asked:
        what = Text("versions for which vllm-ascend has code", "vllm-ascend 代码中区分的 vLLM 版本")
        rows.append(Evidence(what, ", ".join(asked), vllm.base_version))
    close = vllm.release[:2] == wanted.release[:2] or vllm.base_version in asked
    yield (warning if close else error)(*rows, do=Text(
        f"install vllm {wanted.base_version}, or the vllm-ascend release of {vllm.base_version}",
        f"请安装 vllm {wanted.base_version}，或与 {vllm.base_version} 对应的 vllm-ascend",
    ))  # fmt: skip


RULE = Rule("pairing", Text("vLLM against vllm-ascend", "vLLM 与 vllm-ascend 配套"), _judge)
