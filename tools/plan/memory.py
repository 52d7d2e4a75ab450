# SPDX-License-Identifier: Apache-2.0
"""What takes the memory of one card, each part with its formula.

Weights and the KV cache are counted. Activations, graphs, what the driver and HCCL take are
estimates, from formulas that agree with the few figures published; only a start on the chip shows
the real ones.
"""

import math

from vllm_ascend_bringup.attention import CHUNK_MASK_BYTES
from vllm_ascend_bringup.hardware import (
    CHIPS,
    DEPLOYMENTS,
    HCCL_BUFFER_MIB,
    HCCL_DP_BUFFER_MIB,
)
from vllm_ascend_bringup.kernels.nz_mask import mask_bytes
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import chosen
from vllm_ascend_bringup.settings import read_settings
from vllm_ascend_bringup.tools.plan.base import Graphs, Layout, Memory, Part
from vllm_ascend_bringup.tools.plan.environment import EXPERT_BUFFER_MIB
from vllm_ascend_bringup.tools.plan.kv_cache import ITEMSIZE, KvCache
from vllm_ascend_bringup.tools.plan.served import Served, expert_parameters, vocabulary_rows

MIB, GIB = 1 << 20, 1 << 30
# max_num_batched_tokens of `vllm serve` where it knows no device memory, as on Ascend
# (vllm/engine/arg_utils.py, get_batch_defaults; NPUPlatform.get_device_total_memory raises).
BATCHED_TOKENS = 2048
# "0.13 GiB for non-torch memory" of one card without communication (vllm-ascend pull request 8289).
_RUNTIME = 133 * MIB
# Of a layer in a graph; the same log has 0.04 GiB for 35 graphs of 28 layers.
_GRAPH_LAYER = 64 << 10
# Of a logit: the model's, and float32 for the sampler.
_LOGIT = 2 + 4
# Side of the mask that operators of A2 and A3 take, a byte an element.
_FIXED_MASK = 2048 * 2048


def memory(
    served: Served, layout: Layout, cache: KvCache, graphs: Graphs, device: str, *,
    card: int, utilization: float, length: int, concurrency: int,
) -> Memory:  # fmt: skip
    """Of one card. vLLM gives the KV cache what the other parts leave of its share of the card."""
    usable = math.floor(card * utilization)
    fixed = [
        _weights(served, layout), _activations(served, layout, concurrency),
        _masks(device, length), _communicators(layout),
        Part("runtime", Text("driver and runtime", "驱动与运行时"), _RUNTIME,
             Text("measured on one card", "单卡实测值")),
    ]  # fmt: skip
    left = usable - sum(part.bytes for part in fixed)
    divisor = DEPLOYMENTS[device].kv_divisor
    offered = max(0, left // divisor)
    block = cache.token_bytes * cache.block
    taken = offered // block * block if block else 0
    share = Text("", "") if divisor == 1 else Text(" / {n}", " / {n}").format(n=divisor)
    kv = Part(
        "kv_cache", Text("KV cache", "KV cache"), taken,
        Text("({usable} usable - {others} others){share}, whole blocks of {block} tokens; a token "
             "takes {layers} layers x {each} = {token}",
             "（可用 {usable} - 其他 {others}）{share}，按 {block} 个 token 的整块计；"
             "每个 token 占 {layers} 层 x {each} = {token}")
        .format(usable=size(usable), others=size(usable - left), share=share, block=cache.block,
                layers=cache.full + cache.sliding, each=cache.formula,
                token=size(cache.token_bytes)),
    )  # fmt: skip
    parts = [*fixed, kv, _graphs(served, graphs)]
    if divisor > 1:
        title = Text("workspace of operators", "算子工作空间")
        why = Text("what vllm-ascend keeps back on this chip: the other half of what is left",
                   "vllm-ascend 在该芯片上的预留：剩余部分的另一半")  # fmt: skip
        parts.append(Part("workspace", title, max(0, left - offered), why))
    return Memory(card, usable, tuple(parts))


def size(count: int) -> str:
    """Bytes for people: 1.50 GiB."""
    for unit, power in (("GiB", GIB), ("MiB", MIB), ("KiB", 1 << 10)):
        if abs(count) >= power:
            return f"{count / power:.2f} {unit}"
    return f"{count} B"


def _weights(served: Served, layout: Layout) -> Part:
    title = Text("weights", "权重")
    if served.weights is None:
        formula = Text("the largest of the files of {count} ranks", "{count} 个 rank 文件中最大者")
        count = len(served.rank_bytes)
        return Part("weights", title, max(served.rank_bytes), formula.format(count=count))
    w, ranks = served.weights, layout.tp * layout.dp
    nbytes = w.on_rank(served.model, layout.tp, ranks, layout.pp)
    kv = layout.tp if served.model.attention == "MLA" else min(layout.tp, served.model.kv_heads)
    terms = [
        (size(w.whole), 1), (size(w.by_kv_heads), max(1, kv)),
        (size(w.by_ranks + w.first + w.last), layout.tp), (size(w.by_experts), ranks),
    ]  # fmt: skip
    summed = " + ".join(f"{text} / {n}" if n > 1 else text for text, n in terms if text != "0 B")
    formula = Text("{action}: {sum}", "{action}：{sum}").format(action=served.action, sum=summed)
    if layout.pp > 1:
        formula = Text("{formula}, of {n} stages the fullest", "{formula}，取 {n} 级流水线中最满者"
                       ).format(formula=formula, n=layout.pp)  # fmt: skip
    return Part("weights", title, nbytes, formula)


def _activations(served: Served, layout: Layout, concurrency: int) -> Part:
    """The larger of a layer's tensors and the logits: they are not there at the same time."""
    model = served.model
    heads = model.query_heads // layout.tp + 2 * max(1, model.kv_heads // layout.tp)
    top, columns = expert_parameters(served)
    wide = served.number("intermediate_size", "ffn_dim", "n_inner") or 4 * model.hidden_size
    inner = 3 * wide // layout.tp
    if top:
        inner = top * (2 * model.hidden_size + 3 * columns // (layout.tp if layout.dp == 1 else 1))
    elements = 4 * model.hidden_size + heads * model.head_size + inner
    layer = BATCHED_TOKENS * elements * ITEMSIZE
    requests = -(-concurrency // layout.dp)
    logits = requests * vocabulary_rows(served) * _LOGIT
    formula = Text(
        "estimate, the larger of {tokens} tokens x {elements} elements x {size} bytes and "
        "{requests} requests x {rows} logits x {logit} bytes",
        "估算值，取较大者：{tokens} 个 token x {elements} 个元素 x {size} 字节，"
        "或 {requests} 个请求 x {rows} 个 logit x {logit} 字节",
    ).format(tokens=BATCHED_TOKENS, elements=elements, size=ITEMSIZE, requests=requests,
             rows=vocabulary_rows(served), logit=_LOGIT)  # fmt: skip
    return Part("activations", Text("activations", "激活值"), max(layer, logits), formula)


def _masks(device: str, length: int) -> Part:
    title = Text("attention masks", "注意力掩码")
    if not CHIPS[device].fractal_attention:
        formula = Text(
            "2048 x 2048 x 1 byte, whatever the context", "2048 x 2048 x 1 字节，与上下文长度无关"
        )
        return Part("masks", title, _FIXED_MASK, formula)
    patches = {patch.name for patch in chosen(PATCHES, read_settings().patches)}
    whole = mask_bytes(length, length)
    longest = min(BATCHED_TOKENS, 1 << (length - 1).bit_length())
    chunk = min(CHUNK_MASK_BYTES, mask_bytes(BATCHED_TOKENS, length))
    bounded = Text(
        "of prompts {side} x {side} x {size} bytes", "prompt 掩码 {side} x {side} x {size} 字节"
    )
    unbounded = Text("of {what} {side} x {side} x {size} bytes, without this project's patch",
                     "{what}掩码 {side} x {side} x {size} 字节（未启用本项目补丁）")  # fmt: skip
    if "prompt_masks_310p" in patches:
        prompt, first = mask_bytes(longest, longest), bounded.format(side=longest, size=ITEMSIZE)
    else:
        prompt = whole
        first = unbounded.format(what=Text("prompts", "prompt "), side=length, size=ITEMSIZE)
    if "attention_310p" in patches:
        chunks = 2 * chunk
        second = Text("of chunks 2 x {chunk}", "分块掩码 2 x {chunk}").format(chunk=size(chunk))
    else:
        chunks = whole
        second = unbounded.format(what=Text("chunks", "分块"), side=length, size=ITEMSIZE)
    formula = Text("{first}, {second}", "{first}，{second}").format(first=first, second=second)
    return Part("masks", title, prompt + chunks, formula)


def _communicators(layout: Layout) -> Part:
    """Groups of more than one rank, two buffers each."""
    ranks = layout.tp * layout.dp
    groups = {
        "tp": (layout.tp, HCCL_BUFFER_MIB), "pp": (layout.pp, HCCL_BUFFER_MIB),
        "dp": (layout.dp, HCCL_DP_BUFFER_MIB),
    }  # fmt: skip
    if layout.expert_parallel:
        groups |= {"ep": (ranks, HCCL_BUFFER_MIB), "mc2": (ranks, EXPERT_BUFFER_MIB)}
    used = {name: mib for name, (count, mib) in groups.items() if count > 1}
    terms = " + ".join(f"{name} {mib}" for name, mib in used.items())
    formula = Text("send and receive: 2 x ({terms}) MiB", "收发各一份：2 x（{terms}）MiB")
    if not used:
        formula = Text("one rank, none", "单个 rank，无")
    title = Text("buffers of communicators (HCCL)", "HCCL 通信域缓冲区")
    return Part("communicators", title, 2 * sum(used.values()) * MIB, formula.format(terms=terms))


def _graphs(served: Served, graphs: Graphs) -> Part:
    nbytes = len(graphs.sizes) * served.model.layers * _GRAPH_LAYER
    formula = Text(
        "estimate, {sizes} batch sizes x {layers} layers x {each}; beside what vLLM counts",
        "估算值，{sizes} 个 batch 大小 x {layers} 层 x {each}；不在 vLLM 的统计之内",
    ).format(sizes=len(graphs.sizes), layers=served.model.layers, each=size(_GRAPH_LAYER))
    return Part("graphs", Text("captured graphs", "已捕获的图"), nbytes, formula)
