# SPDX-License-Identifier: Apache-2.0
"""What ``bringup plan`` recommends, and why."""

import shlex
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import (
    Block,
    Bullets,
    Cell,
    Code,
    Heading,
    Literally,
    Prose,
    Section,
    Table,
)
from vllm_ascend_bringup.tools.report.sections.facts import rows
from vllm_ascend_bringup.tools.report.words import NONE
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Plan", "规划")
_TITLES: Mapping[str, Text] = MappingProxyType(
    {
        "device": Text("device", "芯片"),
        "vllm_ascend": Text("vllm-ascend", "vllm-ascend 版本"),
        "weights": Text("weights", "权重"),
        "layout": Text("layout", "并行方式"),
        "max_model_len": Text("tokens of a sequence", "单序列 token 数"),
        "concurrency": Text("requests at a time", "并发请求数"),
        "fits": Text("fits", "显存是否足够"),
    }
)
_HEAD = (Text("choice", "选项"), Text("value", "值"))
_SETTINGS = (Text("setting", "设置"), Text("value", "值"), Text("reason", "理由"))
_ADVICE = Text("It does not fit. What may help:", "显存不足，可以尝试：")


def section(validation: Validation) -> Section:
    """The commands, the choices behind them and each setting's reason."""
    plan = validation.plan
    if plan is None:
        nothing = Text(
            "No plan was made: the command was given as it is.",
            "没有生成规划：直接使用给定的命令。",
        )
        return Section("plan", _TITLE, (Prose(nothing),))
    blocks: list[Block] = []
    if not plan.get("fits", True):
        blocks += [Prose(_ADVICE), Bullets(_texts(plan.get("advice", ())))]
    environment = plan.get("environment", ())
    for command in plan.get("commands", ()):
        blocks.append(Code(_lines(command, environment)))
    facts = {name: value for name, value in plan.items() if name in _TITLES}
    blocks.append(Table(_HEAD, rows(facts, _TITLES)))
    settings = (*plan.get("flags", ()), *environment, *plan.get("defaults", ()))
    if settings:
        blocks.append(Table(_SETTINGS, tuple(map(_setting, settings))))
    if notes := _texts(plan.get("notes", ())):
        blocks.append(Bullets(notes))
    for recipe in plan.get("recipes", ()):
        blocks += [Heading(_text(recipe["title"])), Code(tuple(recipe["lines"]))]
        if recipe.get("note"):
            blocks.append(Prose(_text(recipe["note"])))
    return Section("plan", _TITLE, tuple(blocks))


def _text(both: Text | Mapping[str, str]) -> Text:
    return both if isinstance(both, Text) else Text(both["en"], both["zh"])


def _texts(several: Any) -> tuple[Text, ...]:
    return tuple(map(_text, several))


def _setting(setting: Mapping[str, Any]) -> tuple[Cell, ...]:
    value = setting.get("value")
    shown: Cell = Literally(str(value)) if value else NONE
    return (Literally(setting["name"]), shown, _text(setting["reason"]))


def _lines(command: str, environment: Any) -> tuple[str, ...]:
    """The command as it is, a line per variable and per option, quotes as they are."""
    words = shlex.split(command, posix=False)
    if " ".join(words) != command:  # quotes within quotes
        words = [command]
    lines = [f"{setting['name']}={setting['value']}" for setting in environment] + [""]
    for word in words:
        if word.startswith("-"):
            lines.append(f"  {word}")
        else:
            lines[-1] = f"{lines[-1]} {word}" if lines[-1] else word
    return tuple(f"{line} \\" for line in lines[:-1]) + (lines[-1],)
