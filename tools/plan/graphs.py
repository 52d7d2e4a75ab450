# SPDX-License-Identifier: Apache-2.0
"""Which graph mode to ask for, and at which batch sizes."""

from dataclasses import asdict

from packaging.version import Version

from vllm_ascend_bringup.errors import PlanError, listed
from vllm_ascend_bringup.hardware import DEPLOYMENTS, DEVICE_STREAMS, MLA_GRAPH_HEADS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan.base import Graphs, Layout, PlanRequest
from vllm_ascend_bringup.tools.plan.capture import (
    EAGER,
    FULL_DECODE_ONLY,
    PIECEWISE,
    Load,
    candidates,
    few_up_to,
    full_budget,
    piecewise_budget,
    powers_up_to,
    thinned,
)
from vllm_ascend_bringup.tools.plan.environment import issued_by_vector_cores
from vllm_ascend_bringup.tools.plan.served import Served

# Architectures of the adapters in vllm_ascend/xlite/xlite.py, until 0.26.0rc1; later ones have
# DeepSeek-V3's and GLM-5's too.
XLITE = frozenset({
    "LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM", "Qwen3VLForConditionalGeneration",
    "Qwen3MoeForCausalLM", "Qwen3VLMoeForConditionalGeneration", "Glm4MoeForCausalLM",
    "MiniMaxM2ForCausalLM",
})  # fmt: skip
# From here on vllm-ascend no longer prunes capture sizes (pull request 9962).
_UNCOUNTED = Version("0.21.0rc1")
_LARGEST = candidates()[-1]
_GUIDE = "vllm-ascend docs: user_guide/feature_guide/graph_mode.md"
_310P_GUIDE = "vllm-ascend docs: tutorials/hardwares/310p.md"
_MLA_FAQ = "vllm-ascend docs: faqs.md"


def choose_graphs(served: Served, layout: Layout, request: PlanRequest, version: Version) -> Graphs:
    """Raises PlanError if xlite's graphs are asked for where they are not to be had."""
    if request.xlite:
        _check_xlite(served, layout, request)
    concurrency = layout.share(request.concurrency)
    deployment = DEPLOYMENTS[request.device]
    load = Load(
        served.model.layers, tp=layout.tp, dp=layout.dp, decode_cp=layout.decode_cp,
        moe=served.moe, expert_parallel=layout.expert_parallel,
        aiv=issued_by_vector_cores(layout, request.device),
    )  # fmt: skip
    sizes = candidates(concurrency)
    budget = piecewise_budget(load, PIECEWISE, len(candidates()), request.stream_quota)
    piecewise = {**asdict(budget), "kept": budget.kept}
    shared = request.stream_quota < DEVICE_STREAMS
    heads = served.model.query_heads // layout.tp
    if served.model.attention == "MLA" and heads not in MLA_GRAPH_HEADS:
        reason = Text(
            "MLA has {heads} heads on a rank, and its operator takes 32, 64 or 128 in graph mode; "
            "newer CANN may take others",
            "MLA 每个 rank 有 {heads} 个头，而图模式下其算子只支持 32、64 或 128；"
            "较新的 CANN 可能支持更多",
        ).format(heads=heads)
        return Graphs(EAGER, (), True, reason, _MLA_FAQ, piecewise)
    if served.encoder_decoder:
        return _encoder_decoder(sizes, budget.kept, shared, piecewise, version)
    if deployment.graphs is not None:
        few = deployment.graphs if load.groups else None
        return _limited_by_events(concurrency, few, piecewise)
    if shared:
        kept = full_budget(load, request.stream_quota).kept
        return _shared(sizes, kept, request.stream_quota, piecewise)
    # A batch larger than the largest size would run eagerly.
    explicit = sizes[-1] < min(concurrency, _LARGEST)
    if explicit:
        sizes = (*sizes, min(concurrency, _LARGEST))
    reason = Text(
        "one graph of the whole model for each batch size of decoding, so that streams are no "
        "limit; the streams would do for piecewise graphs of {kept} of vLLM's {all} sizes",
        "decode 的每个 batch 大小各捕获一张整图，不受 stream 数量限制；"
        "若用 PIECEWISE，stream 够 vLLM 默认 {all} 个大小中的 {kept} 个使用",
    ).format(kept=min(budget.kept, len(candidates())), all=len(candidates()))
    return Graphs(FULL_DECODE_ONLY, sizes, explicit, reason, _GUIDE, piecewise)


def _limited_by_events(concurrency: int, few: int | None, piecewise: dict[str, int]) -> Graphs:
    """``few``: graphs that can be captured, None on one rank."""
    if few is None:
        reason = Text("one rank: powers of two up to the concurrency",
                      "单个 rank：取 2 的幂直至并发数")  # fmt: skip
        sizes = powers_up_to(concurrency)
        return Graphs(FULL_DECODE_ONLY, sizes, True, reason, _310P_GUIDE, piecewise)
    reason = Text(
        "event ids limit graphs between ranks to {n}; the chip's guide has them for 64 layers",
        "event id 的数量将多个 rank 之间的图限制为 {n} 个；芯片指南中 64 层模型即为此数",
    ).format(n=few)
    sizes = few_up_to(concurrency, few)
    return Graphs(FULL_DECODE_ONLY, sizes, True, reason, _310P_GUIDE, piecewise)


def _shared(sizes: tuple[int, ...], kept: int, quota: int, piecewise: dict[str, int]) -> Graphs:
    """On a virtual device, where piecewise graphs are not supported."""
    if not kept:
        reason = Text("{quota} streams of a virtual device are too few for any graph",
                      "虚拟设备的 {quota} 条 stream 不足以捕获任何图")  # fmt: skip
        reason = reason.format(quota=quota)
        return Graphs(EAGER, (), True, reason, _GUIDE, piecewise)
    reason = Text(
        "vllm-ascend does not know that a virtual device has {quota} of the streams; PIECEWISE is "
        "not supported there",
        "vllm-ascend 不感知虚拟设备只有 {quota} 条 stream；该场景不支持 PIECEWISE",
    ).format(quota=quota)
    return Graphs(FULL_DECODE_ONLY, thinned(sizes, kept), True, reason, _GUIDE, piecewise)


def _encoder_decoder(
    sizes: tuple[int, ...], kept: int, shared: bool, piecewise: dict[str, int], version: Version
) -> Graphs:
    source = "vllm_ascend/platform.py: check_and_update_config"
    if shared:
        reason = Text("encoder-decoder models have piecewise graphs only, which a virtual device "
                      "does not support",
                      "encoder-decoder 模型只支持 PIECEWISE，而虚拟设备不支持该模式")  # fmt: skip
        return Graphs(EAGER, (), True, reason, source, piecewise)
    reason = Text("encoder-decoder models have piecewise graphs only",
                  "encoder-decoder 模型只支持 PIECEWISE")  # fmt: skip
    # Before that vllm-ascend thins the list itself, by the same formula.
    fitting = thinned(sizes, kept) if kept else sizes[-1:]
    return Graphs(PIECEWISE, fitting, version >= _UNCOUNTED, reason, source, piecewise)


def _check_xlite(served: Served, layout: Layout, request: PlanRequest) -> None:
    expected = Text("A2 or A3, one pipeline stage, and one of {known}",
                    "A2 或 A3、单级流水线，且架构为以下之一：{known}"
                    ).format(known=listed(set(XLITE), len(XLITE)))  # fmt: skip
    fix = Text("leave --xlite out", "去掉 --xlite")
    found = None
    if request.device not in ("a2", "a3"):
        found = Text("xlite on {device}", "{device} 上的 xlite").format(device=request.device)
    elif served.model.architecture not in XLITE:
        found = Text("xlite for {name}", "{name} 使用 xlite").format(name=served.model.architecture)
    elif layout.pp > 1:
        found = Text("xlite with {n} pipeline stages", "{n} 级流水线使用 xlite").format(n=layout.pp)
    if found:
        raise PlanError(found, expected, fix)
