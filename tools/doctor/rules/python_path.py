# SPDX-License-Identifier: Apache-2.0
"""The vllm or pip command of the shell belongs to another Python than this bringup.

Signals: the interpreter in the first line of the script that PATH finds. What pip installs then
never reaches the server, and what is judged here is not what serves.
Source: MindIE's FAQ on modules that cannot be imported although they are installed.
"""

from collections.abc import Iterator
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import Script


def _judge(scripts: tuple[Script, ...], python: str) -> Iterator[Judgement]:
    here = Path(python).parent
    strangers = [s for s in scripts if Path(s.interpreter).parent.resolve() != here.resolve()]
    if strangers:
        rows = (
            Evidence(Text(f"Python of {s.file}", f"{s.file} 使用的 Python"), s.interpreter,
                     Text(f"one in {here}", f"位于 {here}"))
            for s in strangers
        )  # fmt: skip
        yield warning(*rows, do=Text(
            f"put {here} first in PATH, or run the bringup of the environment that serves; use "
            "python -m pip instead of pip",
            f"请将 {here} 放到 PATH 最前面，或使用提供服务的环境中的 bringup；"
            "安装时用 python -m pip 代替 pip",
        ))  # fmt: skip


RULE = Rule("python-path", Text("commands on PATH", "PATH 中的命令"), _judge)
