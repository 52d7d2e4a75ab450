# SPDX-License-Identifier: Apache-2.0
"""How many bytes of weights a rank holds, by the names and shapes of the tensors.

An estimate: matrices are divided over the ranks, K and V projections over at most as many ranks
as there are KV heads, experts over all ranks that share them; vectors, routers and MLA's down
projections are whole on each. vLLM pads the vocabulary to a multiple of 64, which is not counted.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.formats.pairing import DecodePlan
from vllm_ascend_bringup.model_facts import ModelFacts

# Decoded weights are bfloat16, or float16 on 310P.
DECODED_BYTES = 2
# Two-dimensional tensors that vLLM keeps whole on every rank: routers, and MLA's down projections
# (ReplicatedLinear in vllm/model_executor/models/deepseek_v2.py).
_REPLICATED = re.compile(r"\.(gate|router|q_a_proj|kv_a_proj_with_mqa)\.weight$")
_KV_PROJECTION = re.compile(r"\.(k_proj|v_proj)\.weight$")
_EXPERT = re.compile(r"\.experts\.")
_EMBEDDING = re.compile(r"(^|\.)(embed_tokens|wte|word_embeddings|tok_embeddings)\.weight$")
_HEAD = re.compile(r"(^|\.)(lm_head|embed_out|output)\.weight$")


@dataclass(frozen=True)
class WeightBytes:
    """Bytes of all ranks together, by how these divide them; ``first``, ``last``: the embedding
    and the head, which only those stages of a pipeline have.
    """

    whole: int
    by_kv_heads: int
    by_ranks: int
    by_experts: int
    first: int
    last: int

    @property
    def total(self) -> int:
        """On one rank that has everything."""
        return (
            self.whole + self.by_kv_heads + self.by_ranks + self.by_experts + self.first + self.last
        )

    def on_rank(self, model: ModelFacts, tp: int, sharing: int = 0, pp: int = 1) -> int:
        """On the fullest rank. ``sharing``: ranks that share the experts, all of tensor and data
        parallelism (tensor parallelism alone if 0). ``pp``: stages, of as many layers each as
        there can be.
        """
        kv_parts = tp if model.attention == "MLA" else min(tp, max(1, model.kv_heads))
        layers = (
            self.whole
            + self.by_kv_heads / kv_parts
            + self.by_ranks / tp
            + self.by_experts / (sharing or tp)
        )
        if pp == 1:
            return round(layers + (self.first + self.last) / tp)
        share = -(-model.layers // pp) / model.layers if model.layers else 1 / pp
        # A tied embedding is the last stage's head too.
        return round(layers * share + max(self.first, self.last) / tp)


def weight_bytes(
    tensors: Iterable[TensorInfo], plan: DecodePlan | None, *, cast: bool = False
) -> WeightBytes:
    """As they are on disk, or decoded by ``plan``. ``cast``: float32 as the dtype it is served in,
    as vLLM loads a checkpoint that is not quantized.
    """
    total: Counter[str] = Counter()
    for tensor in tensors:
        if plan and (tensor.name in plan.scales or tensor.name in plan.dropped):
            continue
        nbytes = tensor.nbytes
        if plan and tensor.name in plan.pairings:
            outputs = plan.pairings[tensor.name].outputs
            nbytes = DECODED_BYTES * sum(math.prod(shape) for _, shape in outputs)
        elif cast and tensor.dtype == "F32":
            nbytes = DECODED_BYTES * tensor.numel
        total[_split(tensor)] += nbytes
    names = ("whole", "by_kv_heads", "by_ranks", "by_experts", "first", "last")
    return WeightBytes(**{name: total[name] for name in names})


def _split(tensor: TensorInfo) -> str:
    splits: Mapping[str, bool] = {
        "by_experts": bool(_EXPERT.search(tensor.name)),
        "whole": len(tensor.shape) < 2 or bool(_REPLICATED.search(tensor.name)),
        "by_kv_heads": bool(_KV_PROJECTION.search(tensor.name)),
        "first": bool(_EMBEDDING.search(tensor.name)),
        "last": bool(_HEAD.search(tensor.name)),
    }
    return next((name for name, applies in splits.items() if applies), "by_ranks")
