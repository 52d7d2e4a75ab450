# SPDX-License-Identifier: Apache-2.0
"""The vLLM or vllm-ascend that runs is not the one that is edited.

Signals: an editable install that points to one folder while the import comes from another; a
package that PYTHONPATH puts in front; a source tree in the current directory that is not the one
imported.
Source: vllm-ascend's model adapter notes: print ``vllm.__file__`` first when edits have no effect.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import (
    Evidence,
    Judgement,
    Rule,
    error,
    note,
    warning,
)
from vllm_ascend_bringup.tools.doctor.facts import Origin, Package


def _judge(
    origins: tuple[Origin, ...], packages: Mapping[str, Package], environ: Mapping[str, str]
) -> Iterator[Judgement]:
    overlays = [entry for entry in environ.get("PYTHONPATH", "").split(":") if entry]
    for origin in origins:
        if origin.installed is None:
            continue
        what = Text(f"{origin.package} is imported from", f"{origin.package} 的导入位置")
        package = packages.get(origin.package.replace("_", "-"))
        overlay = next((entry for entry in overlays if _below(origin.installed, entry)), None)
        if package and package.editable and not _below(origin.installed, package.editable):
            yield error(Evidence(what, origin.installed, package.editable), do=Text(
                f"edits in {package.editable} have no effect: uninstall {package.name} until pip "
                "finds none, then install the editable one again",
                f"对 {package.editable} 的修改不会生效：请反复卸载 {package.name}，直到 pip 找不到"
                "它为止，再重新以可编辑方式安装",
            ))  # fmt: skip
        elif overlay and package:
            yield warning(Evidence(what, origin.installed, Text(
                "not below PYTHONPATH", "不在 PYTHONPATH 之下"
            )), do=Text(
                f"take {overlay} out of PYTHONPATH; an overlay is for debugging only",
                f"请从 PYTHONPATH 中去掉 {overlay}；覆盖导入路径只适合临时调试",
            ))  # fmt: skip
        elif _is_tree(origin) and not _below(origin.installed, origin.folder):
            yield note(Evidence(what, origin.installed, origin.folder), do=Text(
                f"edits in {origin.folder} have no effect on vllm serve: pip install -e there, if "
                "they should",
                f"对 {origin.folder} 的修改不会影响 vllm serve：如需生效，请在该目录执行 "
                "pip install -e .",
            ))  # fmt: skip


def _is_tree(origin: Origin) -> bool:
    """The current directory holds the package's source, as a checkout of it does."""
    return origin.here is not None and origin.here == str(
        Path(origin.folder, origin.package, "__init__.py")
    )


def _below(file: str, folder: str) -> bool:
    return Path(file).resolve().is_relative_to(Path(folder).resolve())


RULE = Rule("stale-import", Text("where packages come from", "包的导入来源"), _judge)
