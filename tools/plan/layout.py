# SPDX-License-Identifier: Apache-2.0
"""Layouts that a model and a chip allow, the preferred one first."""

import functools
from collections.abc import Iterator

from vllm_ascend_bringup.errors import PlanError
from vllm_ascend_bringup.hardware import CHIPS, DEPLOYMENTS
from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.settings import read_settings
from vllm_ascend_bringup.tools.plan.base import Layout, PlanRequest
from vllm_ascend_bringup.tools.plan.served import Served
from vllm_ascend_bringup.tools.tp_scan import BREAKS, scan_tp
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm

_vllm = functools.cache(installed_vllm)


def layouts(served: Served, request: PlanRequest) -> list[Layout]:
    """Clean ones before others, then of few ranks. Raises PlanError if there is none.

    Without ``request.cards`` as few cards as possible are used; with it, all of them, if need be
    for requests of their own (data parallelism).
    """
    _check_kinds(request)
    sizes = _tensor_parallel_sizes(served, request)
    found = [layout for tp in sizes for layout in _around(tp, served, request)]
    if request.tp is None and request.cards is None and request.nodes == 1:
        clean = _clean(served, sizes)
        found.sort(key=lambda layout: (layout.tp not in clean, layout.ranks, -layout.tp))
    if not found:
        raise _no_layout(served, request)
    return found


def _around(tp: int, served: Served, request: PlanRequest) -> Iterator[Layout]:
    """Layouts with this tensor-parallel size."""
    kinds = DEPLOYMENTS[request.device].parallel
    cards = request.cards or DEPLOYMENTS[request.device].devices
    nodes, dcp = request.nodes, request.decode_cp

    def layout(pp: int, dp: int) -> Layout:
        experts = served.moe and "ep" in kinds and tp * dp > 1
        return Layout(tp, pp, dp, dcp, nodes, experts)

    if nodes > 1 and tp > cards:
        if tp == cards * nodes:
            yield layout(1, 1)
    elif nodes > 1 and served.moe and cards % tp == 0:
        yield layout(1, cards * nodes // tp)
    elif nodes > 1:
        yield layout(nodes, 1)
    elif request.cards is None:
        yield layout(1, 1)
        # A mixture of experts whose heads limit tensor parallelism has them on more ranks.
        dp = 2
        while "dp" in kinds and served.moe and tp * dp <= cards:
            yield layout(1, dp)
            dp *= 2
    else:
        yield layout(1, cards // tp if "dp" in kinds and cards % tp == 0 else 1)


def _tensor_parallel_sizes(served: Served, request: PlanRequest) -> list[int]:
    cards = request.cards or DEPLOYMENTS[request.device].devices
    if served.rank_bytes:
        made = len(served.rank_bytes)
        asked = request.tp or made
        if asked != made or made > cards * request.nodes:
            raise _mismatch(made, asked if asked != made else cards)
        return [made]
    if request.tp:
        _check_size(served, request.tp, cards * request.nodes)
        sizes = [request.tp]
    else:
        whole = [size for size in served.model.clean_sizes() or [1] if size <= cards]
        whole = [size for size in whole if not _breaks(served, size)]
        clean = _clean(served, whole)
        sizes = clean + [size for size in whole if size not in clean]
        only_tp = "dp" not in DEPLOYMENTS[request.device].parallel
        dense_on_nodes = request.nodes > 1 and not served.moe
        if (request.cards and only_tp) or dense_on_nodes:
            # All the cards, or as many as divide the heads.
            sizes = sorted(clean or whole, reverse=True)[:1]
    return [size for size in sizes if _shares(served, size, request.decode_cp)]


def _shares(served: Served, tp: int, decode_cp: int) -> bool:
    """Whether vLLM lets ranks share tokens: those that would have copies of the same KV heads."""
    heads = 1 if served.model.attention == "MLA" else max(1, served.model.kv_heads)
    return decode_cp == 1 or (tp >= heads * decode_cp and (tp // heads) % decode_cp == 0)


def is_clean(served: Served, tp: int) -> bool:
    """Whether `bringup inspect --tp` has nothing to say about this size."""
    return not _findings(served, tp)


def _clean(served: Served, sizes: list[int]) -> list[int]:
    return [size for size in sizes if is_clean(served, size)]


def _breaks(served: Served, tp: int) -> bool:
    return any(severity == BREAKS for severity in _findings(served, tp))


def _findings(served: Served, tp: int) -> list[str]:
    found = scan_tp(served.config, tp, _vllm(), read_settings().patches)
    return [finding.severity for finding in found]


def _check_size(served: Served, tp: int, most: int) -> None:
    sizes = [size for size in served.model.clean_sizes() if size <= most]
    if tp > most or served.model.misfit(tp) or _breaks(served, tp):
        raise PlanError(
            Text("tensor-parallel size {tp} for {name} on {most} NPUs",
                 "{name} 在 {most} 个 NPU 上的张量并行数 {tp}")
            .format(tp=tp, name=served.model.architecture, most=most),
            Text("one of {sizes}", "以下之一：{sizes}").format(sizes=joined(sizes)),
            Text("choose another; `bringup inspect --tp {tp}` says what is wrong with this one",
                 "请更换；`bringup inspect --tp {tp}` 会说明原因").format(tp=tp),
        )  # fmt: skip


def _check_kinds(request: PlanRequest) -> None:
    chip, kinds = CHIPS[request.device], DEPLOYMENTS[request.device].parallel
    if kinds == {"tp"} and request.decode_cp > 1:
        raise PlanError(
            Text("context parallelism on {chip}", "{chip} 上的上下文并行").format(chip=chip.title),
            Text("tensor parallelism only", "仅张量并行"),
            Text("leave --dcp out", "去掉 --dcp"),
        )
    if kinds == {"tp"} and request.nodes > 1:
        raise PlanError(
            Text("{n} nodes of {chip}", "{n} 个 {chip} 节点")
            .format(n=request.nodes, chip=chip.title),
            Text("one node, with tensor parallelism", "单节点，仅张量并行"),
            Text("use more cards of one node, or a smaller model",
                 "增加单节点的卡数，或换用更小的模型"),
        )  # fmt: skip


def _mismatch(made: int, asked: int) -> PlanError:
    return PlanError(
        Text("weights saved for TP={made}, to be served on {asked}",
             "权重按 TP={made} 保存，却要以 {asked} 部署").format(made=made, asked=asked),
        Text("--tp {made} on at least {made} cards: vLLM would load the files of some ranks only",
             "--tp {made} 且至少 {made} 张卡：否则 vLLM 只会加载部分 rank 的文件")
        .format(made=made),
        Text("serve it at that size, or save the weights again for the other",
             "按该 TP 部署，或按目标 TP 重新保存权重"),
    )  # fmt: skip


def _no_layout(served: Served, request: PlanRequest) -> PlanError:
    return PlanError(
        Text("{name} on {cards} cards of {nodes} nodes, {dcp} ranks to a request's KV cache",
             "{name} 部署于 {nodes} 个节点、每节点 {cards} 张卡，"
             "{dcp} 个 rank 分摊一个请求的 KV cache")
        .format(name=served.model.architecture, nodes=request.nodes, dcp=request.decode_cp,
                cards=request.cards or DEPLOYMENTS[request.device].devices),
        Text("a tensor-parallel size that divides the heads, and is a multiple of the KV heads "
             "times the ranks that share a request",
             "能整除注意力头数的张量并行数；若多个 rank 分摊一个请求，"
             "还须为 KV 头数与该 rank 数之积的倍数"),
        Text("another number of cards; `bringup inspect` lists the clean sizes",
             "更换卡数；`bringup inspect` 会列出合适的取值"),
    )  # fmt: skip
