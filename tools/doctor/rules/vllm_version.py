# SPDX-License-Identifier: Apache-2.0
"""vLLM's version is not one that vllm-ascend can compare with, or VLLM_VERSION says something else.

Signals: ``vllm.__version__`` of a build from source ("dev", 0.23.1.dev12+g1a2b3c4), the variable
VLLM_VERSION. What is no version ends the start with InvalidVersion; a development version equals
none that vllm-ascend asks for, so it takes the code for another vLLM without a word.
Source: vllm-ascend's utils.py, vllm_version_is; docs/source/faqs.md.
"""

from collections.abc import Iterator, Mapping

from packaging.version import Version

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, warning
from vllm_ascend_bringup.tools.doctor.facts import Imported, Package
from vllm_ascend_bringup.tools.doctor.versions import package_version

_NAME = "VLLM_VERSION"
_FORM = Text("three numbers, such as 0.23.0", "三段数字，例如 0.23.0")


def _judge(
    imported: Imported, packages: Mapping[str, Package], environ: Mapping[str, str]
) -> Iterator[Judgement]:
    plugin, version, stated = packages.get("vllm-ascend"), imported.version, environ.get(_NAME)
    if plugin is None:
        return
    if stated is not None:
        if not _released(stated):
            yield error(Evidence(_NAME, stated, _FORM), do=_set(plugin))
        elif version and _released(version) and Version(version) != Version(stated):
            expected = Text(f"{version}, the version of vLLM", f"{version}，即 vLLM 的版本")
            yield warning(Evidence(_NAME, stated, expected), do=Text(
                f"unset {_NAME}: it is for builds from source, and this vLLM is a release",
                f"请取消 {_NAME}：它只用于源码构建，而当前 vLLM 是正式版本",
            ))  # fmt: skip
    elif version and not _released(version):
        severity = warning if package_version(version) else error
        yield severity(Evidence("vllm.__version__", version, _FORM), do=_set(plugin))


def _set(plugin: Package) -> Text:
    plugin_version = package_version(plugin.version)
    wanted = plugin_version.base_version if plugin_version else "X.Y.Z"
    return Text(
        f"export {_NAME}={wanted}, if that is the release that this vLLM was built from",
        f"如果当前 vLLM 是基于该版本构建的，请执行 export {_NAME}={wanted}",
    )


def _released(text: str) -> bool:
    version = package_version(text)
    return version is not None and not version.is_devrelease and version.local is None


RULE = Rule(
    "vllm-version",
    Text("vLLM's version as vllm-ascend sees it", "vllm-ascend 看到的 vLLM 版本"),
    _judge,
)
