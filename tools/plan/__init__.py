# SPDX-License-Identifier: Apache-2.0
"""``bringup plan``: whether a model fits on a chip, and the exact command that serves it.

When to use it: before a machine is rented, and before the first start. It reads config and headers
only. What it cannot see: what a start on the chip takes beside weights and KV cache, which it
estimates, and whether every operator of the model is there.
"""

from collections.abc import Iterable

from packaging.version import Version

from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.tools.plan.advice import WITHOUT_SCRIPT, advice, notes
from vllm_ascend_bringup.tools.plan.base import Layout, Plan, PlanRequest, Recipe, Setting
from vllm_ascend_bringup.tools.plan.checks import (
    check_chip,
    check_extra,
    context_limit,
    version_of,
)
from vllm_ascend_bringup.tools.plan.container import compress, docker_run, low_latency, offline
from vllm_ascend_bringup.tools.plan.environment import environment
from vllm_ascend_bringup.tools.plan.flags import Decided, defaults, flags
from vllm_ascend_bringup.tools.plan.graphs import choose_graphs
from vllm_ascend_bringup.tools.plan.kv_cache import kv_cache
from vllm_ascend_bringup.tools.plan.layout import layouts
from vllm_ascend_bringup.tools.plan.nodes import node_flags, ray_cluster
from vllm_ascend_bringup.tools.plan.served import read_served
from vllm_ascend_bringup.tools.plan.trial import Trial, choose

__all__ = ["Plan", "PlanRequest", "make_plan"]


def make_plan(request: PlanRequest) -> Plan:
    """Raises PlanError if the chip or the request's sizes allow no plan, and what reading the
    checkpoint raises. A plan that does not fit is returned, with what to do about it.
    """
    version = version_of(request)
    served = read_served(request.model, request.device)
    check_chip(served, request)
    limit = context_limit(served, request)
    trials = [
        Trial(served, layout, request, choose_graphs(served, layout, request, version),
              kv_cache(served, layout, request.device))
        for layout in layouts(served, request)
    ]  # fmt: skip
    usual = min(limit, DEPLOYMENTS[request.device].length or limit)
    trial, length = choose(trials, request.max_model_len, usual)
    return _plan(trial, trials, length, limit, version)


def _plan(trial: Trial, trials: list[Trial], length: int, limit: int, version: Version) -> Plan:
    request, layout, served = trial.request, trial.layout, trial.served
    decided = Decided(
        served, layout, trial.graphs, request.device, length, request.concurrency,
        request.memory_utilization, request.xlite,
    )  # fmt: skip
    chosen = flags(decided)
    check_extra(request.extra, chosen)
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
    small = "dp" in DEPLOYMENTS[request.device].parallel and version < WITHOUT_SCRIPT
    if small:
        yield low_latency(request.device)
