# SPDX-License-Identifier: Apache-2.0
"""A folder in the current directory hides an installed package of the same name.

Signals: where Python finds the package with the current directory first (``python -m``, scripts),
against where a console script finds it. Even a folder without ``__init__`` hides an editable
install, whose finder is asked last.
Source: Python's import system; failures that name an "unknown location" in users' reports.
"""

from collections.abc import Iterator
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Origin


def _judge(origins: tuple[Origin, ...]) -> Iterator[Judgement]:
    for origin in origins:
        if origin.installed is None or origin.here in (None, origin.installed):
            continue
        hiding = str(Path(origin.folder, origin.package))
        what = Text(
            f"{origin.package} from {origin.folder}",
            f"在 {origin.folder} 中导入的 {origin.package}",
        )
        yield warning(Evidence(what, str(origin.here), origin.installed), do=Text(
            f"start the server from another directory, or rename {hiding}",
            f"请换一个目录启动服务，或将 {hiding} 改名",
        ))  # fmt: skip


RULE = Rule(
    "import-shadowing",
    Text("packages hidden by the current directory", "被当前目录遮盖的包"),
    _judge,
)
