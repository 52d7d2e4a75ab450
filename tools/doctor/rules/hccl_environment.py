# SPDX-License-Identifier: Apache-2.0
"""A variable of HCCL has a value that it does not take, or that another one cancels.

Signals: their values against the ranges of CANN's reference. What is out of range is replaced by
the default or ends the initialization, depending on the version. HCCL_DETERMINISTIC=true cancels
HCCL_OP_EXPANSION_MODE=AIV, which graph capture profits from, and a 310P has no AIV.
Source: CANN 8.5's reference of environment variables.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.hardware import CHIPS, Chip
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, note

_MODE = "HCCL_OP_EXPANSION_MODE"
# Smallest and largest value; no largest where the reference states none.
_RANGES = {
    "HCCL_CONNECT_TIMEOUT": (120, 7200), "HCCL_EXEC_TIMEOUT": (0, 2147483647),
    "HCCL_IF_BASE_PORT": (1024, 65520), "HCCL_BUFFSIZE": (1, None),
}  # fmt: skip
_CHOICES = {
    _MODE: ("AI_CPU", "AIV", "HOST", "HOST_TS"),
    "HCCL_DETERMINISTIC": ("false", "true", "strict"),
}
_CORRECT = Text("correct it or unset it", "请更正或取消该变量")


def _judge(environ: Mapping[str, str], chip: Chip | None = None) -> Iterator[Judgement]:
    for name, (low, high) in _RANGES.items():
        value = environ.get(name)
        if value is not None and not _within(value, low, high):
            yield error(Evidence(name, value, _range(low, high)), do=_CORRECT)
    for name, choices in _CHOICES.items():
        value = environ.get(name)
        if value is not None and value not in choices and value.lower() not in choices:
            expected = Text(f"one of {', '.join(choices)}", f"{'、'.join(choices)} 之一")
            yield error(Evidence(name, value, expected), do=_CORRECT)
    if environ.get(_MODE) == "AIV" and chip is CHIPS["310p"]:
        expected = Text(f"HOST or AI_CPU on {chip.title}", f"{chip.title} 上为 HOST 或 AI_CPU")
        yield note(Evidence(_MODE, "AIV", expected), do=Text(
            "unset it: the default is taken in its place", "请取消该变量：实际使用的是默认值"
        ))  # fmt: skip
    elif environ.get(_MODE) == "AIV" and environ.get("HCCL_DETERMINISTIC", "").lower() == "true":
        expected = Text("unset, for AIV to take effect", "不设置，AIV 才会生效")
        yield note(Evidence("HCCL_DETERMINISTIC", "true", expected), do=Text(
            "choose one of them: deterministic sums, or AIV for more graphs",
            "请二选一：确定性计算，或使用 AIV 以捕获更多的图",
        ))  # fmt: skip


def _range(low: int, high: int | None) -> Text:
    if high is None:
        return Text(f"a whole number from {low}", f"不小于 {low} 的整数")
    return Text(f"a whole number from {low} to {high}", f"{low} 到 {high} 之间的整数")


def _within(value: str, low: int, high: int | None) -> bool:
    return value.isdecimal() and low <= int(value) and (high is None or int(value) <= high)


RULE = Rule("hccl-environment", Text("HCCL's variables", "HCCL 环境变量"), _judge)
