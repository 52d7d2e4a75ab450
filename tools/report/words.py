# SPDX-License-Identifier: Apache-2.0
"""How a report says states, stages, sizes, times and commands."""

import shlex
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Mark
from vllm_ascend_bringup.tools.validate.results import FeatureState, Start, State

NONE = "–"
STATES: Mapping[State, Mark] = MappingProxyType(
    {
        "passed": Mark(Text("passed", "通过"), "good"),
        "failed": Mark(Text("failed", "失败"), "bad"),
        "not-run": Mark(Text("not run", "未运行"), "plain"),
        "not-applicable": Mark(Text("not applicable", "不适用"), "plain"),
    }
)
FEATURE_STATES: Mapping[FeatureState, Mark] = MappingProxyType(
    {
        "verified": Mark(Text("verified", "已验证"), "good"),
        "unsupported": Mark(Text("unsupported by the framework", "框架不支持"), "warn"),
        "checkpoint-missing": Mark(Text("its weights are missing", "缺少所需权重"), "warn"),
        "not-applicable": Mark(Text("not applicable", "不适用"), "plain"),
        "not-tried": Mark(Text("not tried", "未尝试"), "plain"),
    }
)
_STAGES = MappingProxyType(
    {"dummy": Text("dummy weights", "虚拟权重"), "real": Text("real weights", "真实权重")}
)
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def stage_title(start: Start) -> Text | str:
    """What a start is called; rungs and trials have names of their own."""
    return _STAGES.get(start.stage, start.stage)


def duration(seconds: float) -> Text:
    """``4.2 s``, or minutes and seconds from two minutes on."""
    if seconds < 120:
        return Text(f"{seconds:.1f} s", f"{seconds:.1f} 秒")
    minutes, rest = divmod(round(seconds), 60)
    return Text(f"{minutes} min {rest} s", f"{minutes} 分 {rest} 秒")


def size(nbytes: float) -> str:
    """Bytes in powers of 1024, two decimals from KiB on."""
    value, unit = float(nbytes), 0
    while abs(value) >= 1024 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.2f} {_UNITS[unit]}"


def shell_lines(command: Sequence[str], environment: Mapping[str, str]) -> tuple[str, ...]:
    """A command to paste into a shell: a line per variable and per option."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in environment.items()] + [""]
    for argument in command:
        quoted = shlex.quote(argument)
        if argument.startswith("-"):
            lines.append(f"  {quoted}")
        else:
            lines[-1] = f"{lines[-1]} {quoted}" if lines[-1] else quoted
    return tuple(f"{line} \\" for line in lines[:-1]) + (lines[-1],)
