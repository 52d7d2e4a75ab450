# SPDX-License-Identifier: Apache-2.0
"""Command R: norms with a weight for each head, where ranks share KV heads."""

from typing import Any

import torch

from vllm_ascend_bringup.head_topology import head_topology


def attention(original: Any) -> Any:
    """``CohereAttention``, the same wherever vLLM's own is right."""
    from vllm.distributed.parallel_state import get_tp_group

    class CohereAttention(original):  # type: ignore[misc]
        k_norm: Any

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            group = get_tp_group()
            topology = head_topology(
                self.total_num_heads, self.total_num_kv_heads, self.head_dim, group.world_size,
                group.rank_in_group,
            )  # fmt: skip
            if self.use_qk_norm and topology.kv_replicas > 1:
                heads = topology.kv_heads_here

                def load_heads(parameter: torch.nn.Parameter, stored: torch.Tensor) -> None:
                    with torch.no_grad():
                        parameter.copy_(stored[heads.start : heads.stop])

                # vLLM's own takes as many rows for each rank, from where its number says.
                self.k_norm.weight.weight_loader = load_heads

    return CohereAttention
