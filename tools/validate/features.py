# SPDX-License-Identifier: Apache-2.0
"""Which features of serving are proved for this model here.

A feature is verified only where a server with real weights passed its checks and the log, or an
answer, shows that it was on. With ``--features`` those not yet on get a server of their own.
"""

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.model_questions import (
    MTP_LACKING,
    MTP_UNSUPPORTED,
    NOT_APPLICABLE,
)
from vllm_ascend_bringup.tools.validate.arguments import has, replaced, without
from vllm_ascend_bringup.tools.validate.checks.counters import SPECULATION
from vllm_ascend_bringup.tools.validate.checks.picture import takes_pictures
from vllm_ascend_bringup.tools.validate.request import Setting
from vllm_ascend_bringup.tools.validate.results import Feature, FeatureState, Start
from vllm_ascend_bringup.tools.validate.serving import Attempt, serve
from vllm_ascend_bringup.tools.validate.stages import said_of

_FLASHCOMM1 = "VLLM_ASCEND_ENABLE_FLASHCOMM1"
_EAGER, _EXPERTS = "--enforce-eager", "--enable-expert-parallel"
_ONE_TOKEN = '{"method": "mtp", "num_speculative_tokens": 1}'
Ruling = tuple[FeatureState, Text]
Judgement = tuple[FeatureState, tuple[Text | str, ...]]
_NO_EXPERTS = Text("the model is no mixture of experts", "模型不是混合专家结构")


@dataclass(frozen=True)
class Switch:
    """How one feature is ruled out, recognized and turned on.

    ``ruled_out``: from the model and the platform alone. ``on``: whether a command has it.
    ``turn_on``: the arguments with it. ``environment``: what turns it on instead. ``shows``: lines
    of the log that it makes; None if it makes none.
    """

    id: str
    title: Text
    ruled_out: Callable[[Setting], Ruling | None]
    on: Callable[[Sequence[str]], bool]
    turn_on: Callable[[Sequence[str]], tuple[str, ...]]
    shows: re.Pattern[str] | None
    environment: Mapping[str, str] = field(default_factory=dict)


def _graph(setting: Setting) -> Ruling | None:
    if setting.cpu:
        return "unsupported", Text("a CPU has no graphs to capture", "CPU 没有图捕获")
    return None


def _experts(setting: Setting) -> Ruling | None:
    return None if setting.report.answers.moe else ("not-applicable", _NO_EXPERTS)


def _flashcomm1(setting: Setting) -> Ruling | None:
    if setting.cpu and setting.report.answers.moe:
        return "unsupported", Text("it is vllm-ascend's, which is not here",
                                   "该特性属于 vllm-ascend，此处没有安装")  # fmt: skip
    return _experts(setting)


def _mtp(setting: Setting) -> Ruling | None:
    mtp = setting.report.answers.mtp
    if mtp.state == NOT_APPLICABLE:
        return "not-applicable", Text("the model has no layers for it", "模型没有 MTP 层")
    if mtp.state == MTP_LACKING:
        text = Text("config.json states {layers} layers, the checkpoint has none of their tensors",
                    "config.json 声明了 {layers} 层，权重中没有对应张量")  # fmt: skip
        return "checkpoint-missing", text.format(layers=mtp.layers)
    if mtp.state == MTP_UNSUPPORTED:
        return "unsupported", Text("this vLLM has no draft model for it",
                                   "此版本 vLLM 没有对应的草稿模型")  # fmt: skip
    return None


SWITCHES = (
    Switch(
        "graph-mode", Text("graph mode", "图模式"), _graph,
        lambda arguments: not has(arguments, _EAGER),
        lambda arguments: without(arguments, _EAGER),
        re.compile(r"Graph capturing finished|Capturing .*100%"),
    ),
    Switch(
        "expert-parallelism", Text("expert parallelism", "专家并行"), _experts,
        lambda arguments: has(arguments, _EXPERTS),
        lambda arguments: replaced(arguments, _EXPERTS),
        re.compile("Expert parallelism is enabled"),
    ),
    Switch(
        "flashcomm1", Text("flashcomm1", "flashcomm1"), _flashcomm1,
        lambda _: os.environ.get(_FLASHCOMM1) == "1", tuple, None, {_FLASHCOMM1: "1"},
    ),
    Switch(
        "mtp", Text("multi-token prediction (MTP)", "多 token 预测（MTP）"), _mtp,
        lambda arguments: has(arguments, SPECULATION),
        lambda arguments: replaced(arguments, SPECULATION, _ONE_TOKEN),
        re.compile("Loading drafter model|SpecDecoding metrics"),
    ),
)  # fmt: skip


def feature_matrix(setting: Setting, real: Start) -> tuple[Feature, ...]:
    """``real``: the server with real weights. Starts others only with ``--features``."""
    found = [(each.id, each.title, *_judge(each, setting, real)) for each in SWITCHES]
    found.append(
        ("multimodal", Text("multimodal input", "多模态输入"), *_multimodal(setting, real))
    )
    return tuple(Feature(id_, title, state, evidence) for id_, title, state, evidence in found)


def _judge(switch: Switch, setting: Setting, real: Start) -> Judgement:
    if ruling := switch.ruled_out(setting):
        state, why = ruling
        return state, (why,)
    if switch.on(setting.arguments):
        return _seen(switch, real)
    if not setting.request.features or real.state != "passed":
        why = Text("off in this command; --features tries it",
                   "本次命令未启用；可用 --features 单独验证")  # fmt: skip
        return "not-tried", (why,)
    variables = tuple(f"{name}={value}" for name, value in switch.environment.items())
    trial = serve(
        Attempt(
            f"feature-{switch.id}", switch.turn_on(setting.arguments), switch.environment,
            changed=(f"+{switch.id}", *variables),
        ),
        setting,
    )  # fmt: skip
    setting.request.say(said_of(trial))
    return _seen(switch, trial)


def _seen(switch: Switch, start: Start) -> Judgement:
    """What a server with the feature on proves."""
    if start.state != "passed":
        text = Text("a server with it failed: {label}", "启用后服务失败：{label}")
        return "unsupported", (text.format(label=start.label or start.state),)
    if switch.shows is None:
        variables = " ".join(f"{name}={value}" for name, value in switch.environment.items())
        text = Text("served with {variables}; the log never says so",
                    "已在 {variables} 下提供服务；日志对此没有记录")  # fmt: skip
        return "verified", (text.format(variables=variables),)
    lines = Path(start.log).read_text(errors="replace").splitlines()
    if shown := tuple(line for line in lines if switch.shows.search(line))[:2]:
        return "verified", shown
    why = Text("served, but the log does not show that it was on",
               "服务正常，但日志没有显示该特性已启用")  # fmt: skip
    return "not-tried", (why,)


def _multimodal(setting: Setting, real: Start) -> Judgement:
    parts = setting.report.model.parts
    if not parts:
        return "not-applicable", (Text("the model takes text only", "模型只接受文本"),)
    if why_not := takes_pictures(parts, setting.arguments):
        return "not-tried", (why_not,)
    check = next((check for check in real.checks if check.id == "picture"), None)
    if check and check.state == "passed":
        return "verified", check.evidence
    return "not-tried", (Text("no picture was answered", "没有得到图像请求的回答"),)
