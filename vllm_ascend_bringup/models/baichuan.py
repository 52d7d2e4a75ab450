# SPDX-License-Identifier: Apache-2.0
"""Baichuan-13B, Baichuan2-7B and Baichuan2-13B: Llama but for ALiBi (13B) and the head (2)."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from vllm.config import VllmConfig
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.model_executor.layers.attention import Attention
from vllm.model_executor.layers.linear import QKVParallelLinear, RowParallelLinear
from vllm.model_executor.models.llama import LlamaDecoderLayer, LlamaForCausalLM

# The two sizes differ in their code, not in their config. 7B has RoPE.
_HIDDEN_SIZE_OF_7B = 4096
# Baichuan2 is known by its vocabulary.
_VOCABULARY_OF_2 = 125696


def alibi_slopes(H: int) -> list[float]:
    """Slopes of ``H`` heads (Press, Smith and Lewis, "Train Short, Test Long", 2022).

    A geometric series from 2**(-8 / n) for a power of two n; other head counts take every second
    value of the series for 2 n after those for n.
    """
    n = 1 << (H.bit_length() - 1)
    slopes = [2 ** (-8 * (h + 1) / n) for h in range(n)]
    return slopes + [2 ** (-4 * (2 * h + 1) / n) for h in range(H - n)]


class AlibiAttention(nn.Module):
    """Multi-head attention with ALiBi, under the names and arguments of vLLM's LlamaAttention."""

    def __init__(
        self, *, hidden_size: int, num_heads: int, quant_config: Any = None,
        cache_config: Any = None, prefix: str = "", **_: Any,
    ) -> None:  # fmt: skip
        super().__init__()
        ranks, rank = get_tensor_model_parallel_world_size(), get_tensor_model_parallel_rank()
        D, heads = hidden_size // num_heads, num_heads // ranks
        self.qkv_proj = QKVParallelLinear(
            hidden_size, D, num_heads, bias=False, quant_config=quant_config,
            prefix=f"{prefix}.qkv_proj",
        )  # fmt: skip
        self.o_proj = RowParallelLinear(
            hidden_size, hidden_size, bias=False, quant_config=quant_config,
            prefix=f"{prefix}.o_proj",
        )  # fmt: skip
        self.attn = Attention(
            heads, D, D**-0.5, alibi_slopes=alibi_slopes(num_heads)[rank * heads :][:heads],
            cache_config=cache_config, quant_config=quant_config, prefix=f"{prefix}.attn",
        )  # fmt: skip

    def forward(self, positions: torch.Tensor, hidden_states: torch.Tensor) -> torch.Tensor:
        """``hidden_states`` ``[T, hidden_size]``; positions are in the bias alone."""
        qkv, _ = self.qkv_proj(hidden_states)
        q, k, v = qkv.chunk(3, dim=-1)
        out: torch.Tensor = self.o_proj(self.attn(q, k, v))[0]
        return out


class _AlibiLayer(LlamaDecoderLayer):
    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        super().__init__(vllm_config, prefix, attn_layer_type=AlibiAttention)


class BaichuanForCausalLM(LlamaForCausalLM):
    """vLLM's Llama with Baichuan's positions and head."""

    def __init__(self, *, vllm_config: VllmConfig, prefix: str = "") -> None:
        rope = vllm_config.model_config.hf_config.hidden_size == _HIDDEN_SIZE_OF_7B
        layer = LlamaDecoderLayer if rope else _AlibiLayer
        super().__init__(vllm_config=vllm_config, prefix=prefix, layer_type=layer)

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load; Baichuan2 wants the rows of its head at length one (its ``NormHead``)."""
        normalize = self.config.vocab_size == _VOCABULARY_OF_2
        loaded: set[str] = super().load_weights(
            (name, nn.functional.normalize(tensor))
            if normalize and name == "lm_head.weight"
            else (name, tensor)
            for name, tensor in weights
        )
        return loaded
