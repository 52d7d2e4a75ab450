# SPDX-License-Identifier: Apache-2.0
"""What the KV cache takes, by config.json and how ranks divide the heads.

Two bytes an element. What it cannot see: caches of linear attention and state-space layers, which
are the same size for any length, and how vLLM groups layers of different kinds.
"""

from dataclasses import dataclass

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan.base import Layout
from vllm_ascend_bringup.tools.plan.served import Served

ITEMSIZE = 2
_SLIDING = ("sliding_attention", "chunked_attention")


@dataclass(frozen=True)
class KvCache:
    """Of one rank. ``layer_bytes``: of a token in a layer. ``full``: layers of its pipeline stage
    that keep every token; ``sliding``: those that keep ``window`` of them. ``block``: tokens.
    ``decode_cp``: ranks that share the tokens of a request. ``formula``: of ``layer_bytes``.
    """

    layer_bytes: int
    full: int
    sliding: int
    window: int
    block: int
    decode_cp: int
    formula: Text

    @property
    def token_bytes(self) -> int:
        """Of a token in all layers."""
        return self.layer_bytes * (self.full + self.sliding)

    def request_bytes(self, length: int, batched: int) -> int:
        """Of a request of this length, whole blocks. ``batched``: tokens of one step, which a
        window's blocks hold too before it moves on.
        """
        blocks = -(-length // (self.block * self.decode_cp))
        kept = min(blocks, -(-(self.window + batched) // self.block) + 1)
        return (blocks * self.full + kept * self.sliding) * self.block * self.layer_bytes


def kv_cache(served: Served, layout: Layout, device: str) -> KvCache:
    """Of the fullest rank."""
    model = served.model
    if model.attention == "MLA":
        latent = served.number("kv_lora_rank"), served.number("qk_rope_head_dim")
        elements = sum(latent) + served.number("index_head_dim")
        formula = Text(
            "{elements} elements of latent x {size} bytes", "latent {elements} 个元素 x {size} 字节"
        ).format(elements=elements, size=ITEMSIZE)
    else:
        heads = max(1, model.kv_heads // layout.tp)
        elements = 2 * heads * model.head_size
        formula = Text(
            "K and V x {heads} KV heads x {head} x {size} bytes",
            "K 与 V x {heads} 个 KV 头 x {head} x {size} 字节",
        ).format(heads=heads, head=model.head_size, size=ITEMSIZE)
    full, sliding = _layers(served)
    window = served.number("sliding_window", "attention_chunk_size")
    full, sliding = (-(-count // layout.pp) for count in (full, sliding))
    sizes = CHIPS[device].block_sizes
    return KvCache(elements * ITEMSIZE, full, sliding, window, sizes[0], layout.decode_cp, formula)


def _layers(served: Served) -> tuple[int, int]:
    """Layers that keep every token, and those that keep a window."""
    layers = served.model.layers
    if not served.number("sliding_window", "attention_chunk_size"):
        kinds = served.text.get("layer_types")
        linear = kinds.count("linear_attention") if isinstance(kinds, list) else 0
        return layers - linear, 0
    kinds = served.text.get("layer_types")
    if isinstance(kinds, list):
        sliding = sum(kinds.count(kind) for kind in _SLIDING)
        return layers - sliding - kinds.count("linear_attention"), sliding
    return (layers, 0) if served.text.get("use_sliding_window") is False else (0, layers)
