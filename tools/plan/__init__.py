# SPDX-License-Identifier: Apache-2.0
"""``bringup plan``: whether a model fits on a chip, and the exact command that serves it.

When to use it: before a machine is rented, and before the first start. It reads config and headers
only. What it cannot see: what a start on the chip takes beside weights and KV cache, which it
estimates, and whether every operator of the model is there.
"""

import importlib.util
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from packaging.version import InvalidVersion, Version

from vllm_ascend_bringup.errors import PlanError
from vllm_ascend_bringup.hardware import CHIPS, DEPLOYMENTS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.patching import installed_versions
from vllm_ascend_bringup.tools.plan.advice import advice, notes
from vllm_ascend_bringup.tools.plan.base import (
    Capacity,
    Graphs,
    Layout,
    Memory,
    Plan,
    PlanRequest,
    Recipe,
    Setting,
)
from vllm_ascend_bringup.tools.plan.container import compress, docker_run, low_latency, offline
from vllm_ascend_bringup.tools.plan.environment import environment
from vllm_ascend_bringup.tools.plan.flags import Decided, defaults, flags
from vllm_ascend_bringup.tools.plan.graphs import choose_graphs
from vllm_ascend_bringup.tools.plan.kv_cache import KvCache, kv_cache
from vllm_ascend_bringup.tools.plan.layout import is_clean, layouts
from vllm_ascend_bringup.tools.plan.memory import BATCHED_TOKENS, memory
from vllm_ascend_bringup.tools.plan.nodes import node_flags, ray_cluster
from vllm_ascend_bringup.tools.plan.served import Served, read_served

__all__ = ["Plan", "PlanRequest", "make_plan"]

# The newest release whose checks this project's plans were held against.
_NEWEST = "0.26.0rc1"
# vllm-ascend's script for an attention operator of small batches was there until this one.
_WITHOUT_SCRIPT = Version("0.20")
# Tokens of a context that is worth a server, where nobody has asked for a length.
_SHORTEST = 4096


@dataclass(frozen=True)
class Trial:
    """One layout with all that follows from it, for a context of any length."""

    served: Served
    layout: Layout
    request: PlanRequest
    graphs: Graphs
    cache: KvCache

    def memory(self, length: int) -> Memory:
        """Of one card."""
        card = self.request.card_memory or DEPLOYMENTS[self.request.device].memory
        return memory(
            self.served, self.layout, self.cache, self.graphs, self.request.device, card=card,
            utilization=self.request.memory_utilization, length=length,
            concurrency=self.request.concurrency,
        )  # fmt: skip

    def requests(self, length: int) -> int:
        """Of this length at a time, on all data-parallel ranks."""
        each = self.cache.request_bytes(length, BATCHED_TOKENS)
        return self.memory(length).part("kv_cache").bytes // each * self.layout.dp if each else 0

    def fits(self, length: int) -> bool:
        """Whether vLLM starts: one request has to fit."""
        return self.requests(length) > 0

    def largest(self, limit: int) -> int:
        """The longest context that fits, in whole blocks, or ``limit``; 0 if none does."""
        if self.fits(limit):
            return limit
        return self.cache.block * _largest(
            limit // self.cache.block, lambda blocks: self.fits(blocks * self.cache.block)
        )

    def capacity(self, length: int, limit: int) -> Capacity:
        """``limit``: of the model."""
        each = self.cache.request_bytes(length, BATCHED_TOKENS)
        blocks = self.memory(length).part("kv_cache").bytes * length // (each or 1)
        tokens = blocks // self.cache.block * self.cache.block * self.layout.dp
        return Capacity(tokens, self.requests(length), self.largest(limit))


def make_plan(request: PlanRequest) -> Plan:
    """Raises PlanError if the chip or the request's sizes allow no plan, and what reading the
    checkpoint raises. A plan that does not fit is returned, with what to do about it.
    """
    version = _version(request)
    served = read_served(request.model, request.device)
    _check_chip(served, request)
    limit = _limit(served, request)
    trials = [
        Trial(served, layout, request, choose_graphs(served, layout, request, request.concurrency,
              version), kv_cache(served, layout, request.device))
        for layout in layouts(served, request)
    ]  # fmt: skip
    usual = min(limit, DEPLOYMENTS[request.device].length or limit)
    trial, length = _choose(trials, request.max_model_len, usual)
    return _plan(trial, trials, length, limit, version)


def _choose(trials: list[Trial], asked: int | None, usual: int) -> tuple[Trial, int]:
    """The first layout that fits ``asked`` tokens; without that, a clean one with less than the
    ``usual`` context rather than one that is not clean. If none fits, that which lacks least.
    """
    clean = [t for t in trials if is_clean(t.served, t.layout.tp)]
    for group in (trials,) if asked else (clean, trials):
        if found := next((t for t in group if t.fits(asked or usual)), None):
            return found, asked or usual
        best = max(group, key=lambda t: t.largest(usual), default=None)
        if not asked and best and best.largest(usual) >= min(usual, _SHORTEST):
            return best, best.largest(usual)
    least = max(trials, key=lambda t: t.memory(asked or usual).free_bytes)
    return least, asked or least.largest(usual) or usual


def _plan(trial: Trial, trials: list[Trial], length: int, limit: int, version: Version) -> Plan:
    request, layout, served = trial.request, trial.layout, trial.served
    decided = Decided(
        served, layout, trial.graphs, request.device, length, request.concurrency,
        request.memory_utilization, request.xlite,
    )  # fmt: skip
    chosen = flags(decided)
    _check_extra(request.extra, chosen)
    variables = environment(layout, request.device, tuple(range(layout.cards)))
    capacity = trial.capacity(length, limit)
    fits = trial.fits(length)
    larger = next((t for t in trials if t.requests(length) >= request.concurrency), None)
    return Plan(
        model=str(request.model),
        device=request.device,
        vllm_ascend=str(version),
        weights=served.action,
        layout=layout,
        max_model_len=length,
        concurrency=request.concurrency,
        fits=fits,
        memory=trial.memory(length),
        capacity=capacity,
        graphs=trial.graphs,
        flags=chosen,
        environment=variables,
        defaults=defaults(decided),
        commands=tuple(_commands(request, layout, chosen)),
        recipes=tuple(_recipes(trial, variables, length, version)),
        advice=() if fits else advice(served, request, capacity, trial.memory(length)),
        notes=notes(
            served, request, layout, capacity, length, larger.layout if larger else None, version
        ),
    )


def _commands(
    request: PlanRequest, layout: Layout, chosen: Iterable[Setting]
) -> Iterable[tuple[str, ...]]:
    """The first node's, and one of each other node that serves ranks of its own."""
    words = ["vllm", "serve", str(request.model)]
    for setting in chosen:
        words += [setting.name] if setting.value is None else [setting.name, setting.value]
    own = layout.nodes if node_flags(layout, 0) else 1
    for node in range(own):
        yield (*words, *node_flags(layout, node), *request.extra)


def _recipes(
    trial: Trial, variables: tuple[Setting, ...], length: int, version: Version
) -> Iterable[Recipe]:
    request, layout = trial.request, trial.layout
    numbers = tuple(range(layout.cards))
    yield docker_run(request.device, str(version), numbers, request.model, layout.nodes)
    yield offline(request.device, str(version))
    if layout.ray:
        yield ray_cluster(variables)
    if "W8A8S" in trial.served.modelslim and not trial.served.rank_bytes:
        yield compress(request.model, layout.tp, length)
    small = "dp" in DEPLOYMENTS[request.device].parallel and version < _WITHOUT_SCRIPT
    if small:
        yield low_latency(request.device)


def _version(request: PlanRequest) -> Version:
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


def _check_chip(served: Served, request: PlanRequest) -> None:
    chip, model = CHIPS[request.device], served.model
    expected = Text("a model that the chip has operators for", "芯片具备相应算子的模型")
    fix = Text("choose A2 or A3", "改用 A2 或 A3")
    if model.attention == "MLA" and not chip.mla:
        found = Text("MLA attention on {chip}", "{chip} 上的 MLA 注意力")
        raise PlanError(found.format(chip=chip.title), expected, fix)
    if model.attention != "MLA" and model.head_size and not chip.block_size(model.head_size):
        found = Text("attention heads of size {n} on {chip}", "{chip} 上大小为 {n} 的注意力头")
        raise PlanError(found.format(n=model.head_size, chip=chip.title), expected, fix)


def _limit(served: Served, request: PlanRequest) -> int:
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


def _check_extra(extra: tuple[str, ...], chosen: Iterable[Setting]) -> None:
    ours = {setting.name for setting in chosen} | {"-tp", "-pp", "-dp", "-dcp", "-cc", "-q"}
    for word in extra:
        name = re.sub("_", "-", word.partition("=")[0]) if word.startswith("-") else ""
        if name in ours:
            raise PlanError(
                Text("{name} among the arguments for vLLM", "传给 vLLM 的参数中有 {name}")
                .format(name=name),
                Text("what the plan does not set itself", "计划本身未设置的参数"),
                Text("leave it out; the plan's own options change it",
                     "去掉该参数；请使用 plan 自身的选项修改"),
            )  # fmt: skip


def _largest(high: int, good: Callable[[int], bool]) -> int:
    """The largest number up to ``high`` that is good, if all below it are; 0 if none is."""
    low = 0
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if good(middle) else (low, middle - 1)
    return low
