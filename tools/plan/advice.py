# SPDX-License-Identifier: Apache-2.0
"""What to do if a plan does not fit, and what else to know about one that does."""

from packaging.version import Version

from vllm_ascend_bringup.hardware import CHIPS, DEPLOYMENTS, MLA_GRAPH_HEADS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan.base import Capacity, Layout, Memory, PlanRequest
from vllm_ascend_bringup.tools.plan.memory import size
from vllm_ascend_bringup.tools.plan.served import Served

# Requests at a time for which the attention operator of small batches matters.
_SMALL_BATCH = 16
_WITHOUT_SCRIPT = Version("0.20")
_BEFORE_THE_CACHE = ("weights", "activations", "masks", "communicators", "runtime")


def advice(
    served: Served, request: PlanRequest, capacity: Capacity, memory: Memory
) -> tuple[Text, ...]:
    """For a plan in which not one request of its length fits; the cheapest first."""
    beside = sum(part.bytes for part in memory.parts if part.id in _BEFORE_THE_CACHE)
    found = [
        Text("{taken} is taken before the KV cache, of {usable} that vLLM may use",
             "KV cache 之前已占用 {taken}，而 vLLM 可用 {usable}")
        .format(taken=size(beside), usable=size(memory.usable_bytes))
    ]  # fmt: skip
    if capacity.largest_length:
        found.append(
            Text("a context of at most {n} tokens: --max-model-len {n}",
                 "将上下文长度减小到 {n} 以内：--max-model-len {n}")
            .format(n=capacity.largest_length)
        )  # fmt: skip
    if request.cards is not None or request.tp is not None:
        found.append(
            Text("more cards: leave out --cards and --tp to see how many it takes",
                 "增加卡数：去掉 --cards 与 --tp 可查看所需数量")
        )  # fmt: skip
    elif request.nodes == 1 and "pp" in DEPLOYMENTS[request.device].parallel:
        found.append(Text("more nodes: --nodes 2", "增加节点：--nodes 2"))
    if not served.modelslim:
        found.append(
            Text("weights quantized by ModelSlim to W8A8, half the size of 16-bit ones",
                 "使用 ModelSlim 量化的 W8A8 权重，大小为 16 位权重的一半")
        )  # fmt: skip
    if CHIPS[request.device].fractal_attention:
        found.append(
            Text("a chip with more memory: this one keeps half of what is left for workspaces",
                 "换用显存更大的芯片：该芯片会将剩余显存的一半留作算子工作空间")
        )  # fmt: skip
    return tuple(found)


def notes(
    served: Served, request: PlanRequest, layout: Layout, capacity: Capacity, length: int,
    larger: Layout | None, version: Version,
) -> tuple[Text, ...]:  # fmt: skip
    """``larger``: a layout that holds all requests at full length, if there is one."""
    found = []
    if 0 < capacity.requests < request.concurrency:
        found.append(
            Text("{n} requests of {length} tokens fit at a time; of {all}, vLLM stops some and "
                 "computes them again when all are this long",
                 "可同时容纳 {n} 个长度为 {length} 的请求；若 {all} 个请求都达到该长度，"
                 "vLLM 会暂停并重算其中一部分")
            .format(n=capacity.requests, length=length, all=request.concurrency)
        )  # fmt: skip
        if larger is not None:
            found.append(
                Text("{cards} cards hold all of them: --tp {tp}",
                     "使用 {cards} 张卡即可全部容纳：--tp {tp}")
                .format(cards=larger.ranks, tp=larger.tp)
            )  # fmt: skip
    if request.cards and (idle := request.cards * request.nodes - layout.ranks):
        found.append(
            Text("{n} cards stay idle: serve the model there once more, with other numbers in "
                 "ASCEND_RT_VISIBLE_DEVICES and another port",
                 "有 {n} 张卡空闲：可在其上再部署一份，"
                 "换用其他 ASCEND_RT_VISIBLE_DEVICES 编号与端口")
            .format(n=idle)
        )  # fmt: skip
    if served.model.attention == "MLA" and served.model.query_heads // layout.tp not in (
        MLA_GRAPH_HEADS
    ):
        found.append(
            Text("on a newer CANN try it without --enforce-eager: graphs are much faster",
                 "在较新的 CANN 上可尝试去掉 --enforce-eager：图模式快得多")
        )  # fmt: skip
    if layout.decode_cp > 1:
        found.append(
            Text("context parallelism: do not set cudagraph_mode to FULL, which is not fully "
                 "supported with it",
                 "上下文并行：不要将 cudagraph_mode 设为 FULL，该组合尚未完全支持")
        )  # fmt: skip
    if _linear(served):
        found.append(
            Text(
                "caches of its linear attention layers are not counted", "线性注意力层的缓存未计入"
            )
        )
    small = request.concurrency <= _SMALL_BATCH and not CHIPS[request.device].fractal_attention
    if small and version >= _WITHOUT_SCRIPT:
        found.append(
            Text("small batches: pa_shape_list in --additional-config names batch sizes for which "
                 "another attention operator may be faster; never beside the operator that "
                 "vllm-ascend before 0.20 had a script for",
                 "小 batch：可用 --additional-config 的 pa_shape_list 指定 batch 大小，"
                 "改用另一个注意力算子；"
                 "不可与 vllm-ascend 0.20 之前脚本安装的算子同时使用")
        )  # fmt: skip
    found.append(
        Text("activations, graphs and buffers are estimates: `bringup validate` finds what really "
             "fits",
             "激活值、图与缓冲区均为估算：实际容量请用 `bringup validate` 确认")
    )  # fmt: skip
    return tuple(found)


def _linear(served: Served) -> bool:
    kinds = served.text.get("layer_types")
    return isinstance(kinds, list) and "linear_attention" in kinds
