# SPDX-License-Identifier: Apache-2.0
"""Llama as fairseq2 saves it."""

from collections.abc import Iterable

import torch
from vllm.model_executor.models.llama import LlamaForCausalLM


class Fairseq2LlamaForCausalLM(LlamaForCausalLM):
    """vLLM's Llama; its recipe renames, and the rows of Q and K are put in vLLM's order.

    RoPE turns pairs of a head's dimensions: fairseq2 pairs 2 i with 2 i + 1
    (``ReferenceRotaryEncoder``), Hugging Face and vLLM pair i with i + D / 2.
    """

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        """Load a whole checkpoint; names are Hugging Face's by now."""
        loaded: set[str] = super().load_weights(
            (name, self._halves(tensor) if ".q_proj." in name or ".k_proj." in name else tensor)
            for name, tensor in weights
        )
        return loaded

    def _halves(self, weight: torch.Tensor) -> torch.Tensor:
        """``[H * D, ...]``: rows (h, 2 i + s) become rows (h, s * D / 2 + i)."""
        D = getattr(self.config, "head_dim", None) or (
            self.config.hidden_size // self.config.num_attention_heads
        )
        pairs = weight.reshape(-1, D // 2, 2, *weight.shape[1:])
        return pairs.transpose(1, 2).reshape(weight.shape)
