# SPDX-License-Identifier: Apache-2.0
"""Requests for which there is no plan, whatever the layout."""

import importlib.util
from collections.abc import Iterable

from packaging.version import InvalidVersion, Version

from vllm_ascend_bringup.errors import PlanError
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.patching import installed_versions
from vllm_ascend_bringup.tools.plan.base import PlanRequest, Setting
from vllm_ascend_bringup.tools.plan.served import Served

# The newest release whose checks this project's plans were held against.
_NEWEST = "0.26.0rc1"
# Spellings of flags that a plan sets.
_SHORT = frozenset({"-tp", "-pp", "-dp", "-dcp", "-cc", "-q"})


def version_of(request: PlanRequest) -> Version:
    """Of vllm-ascend: asked for, else installed, else the newest that plans were checked with."""
    here = importlib.util.find_spec("vllm_ascend") is not None
    installed = installed_versions().get("vllm_ascend") if here else None
    given = request.vllm_ascend or installed or _NEWEST
    try:
        return Version(given)
    except InvalidVersion:
        raise PlanError(
            Text("vllm-ascend version {given!r}", "vllm-ascend 版本 {given!r}").format(given=given),
            Text("a version such as {newest}", "形如 {newest} 的版本号").format(newest=_NEWEST),
            Text("leave it out, or correct it", "去掉该选项或更正"),
        ) from None


def check_chip(served: Served, request: PlanRequest) -> None:
    """Raises PlanError if the chip has no operator for the model's attention."""
    chip, model = CHIPS[request.device], served.model
    expected = Text("a model that the chip has operators for", "芯片具备相应算子的模型")
    fix = Text("choose A2 or A3", "改用 A2 或 A3")
    if model.attention == "MLA" and not chip.mla:
        found = Text("MLA attention on {chip}", "{chip} 上的 MLA 注意力")
        raise PlanError(found.format(chip=chip.title), expected, fix)
    if model.attention != "MLA" and model.head_size and not chip.block_size(model.head_size):
        found = Text("attention heads of size {n} on {chip}", "{chip} 上大小为 {n} 的注意力头")
        raise PlanError(found.format(n=model.head_size, chip=chip.title), expected, fix)


def context_limit(served: Served, request: PlanRequest) -> int:
    """The longest context the model allows; of one that does not say, what is asked for."""
    asked = request.max_model_len
    if served.context and asked and asked > served.context:
        raise PlanError(
            Text("a context of {asked} tokens", "{asked} 个 token 的上下文").format(asked=asked),
            Text("at most {most}, which the model was made for", "不超过模型支持的 {most}")
            .format(most=served.context),
            Text("lower --max-model-len, or stretch the model's positions in config.json",
                 "减小 --max-model-len，或在 config.json 中配置位置编码扩展"),
        )  # fmt: skip
    if not served.context and not asked:
        raise PlanError(
            Text("config.json states no context length", "config.json 未给出上下文长度"),
            Text("--max-model-len", "--max-model-len"),
            Text("give it", "请指定该选项"),
        )
    return served.context or asked or 0


def check_extra(extra: tuple[str, ...], chosen: Iterable[Setting]) -> None:
    """Raises PlanError if the arguments for vLLM have a flag that the plan sets."""
    ours = {setting.name for setting in chosen} | _SHORT
    for word in extra:
        name = word.partition("=")[0].replace("_", "-")
        if name in ours:
            raise PlanError(
                Text("{name} among the arguments for vLLM", "传给 vLLM 的参数中有 {name}")
                .format(name=name),
                Text("what the plan does not set itself", "计划本身未设置的参数"),
                Text("leave it out; the plan's own options change it",
                     "去掉该参数；请使用 plan 自身的选项修改"),
            )  # fmt: skip
