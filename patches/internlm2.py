# SPDX-License-Identifier: Apache-2.0
"""InternLM2: Q, K and V interleaved by KV head on disk, where ranks share KV heads."""

from typing import Any

import torch

from vllm_ascend_bringup.head_topology import head_topology


def attention(original: Any) -> Any:
    """``InternLM2Attention``, the same wherever vLLM's own is right."""
    from vllm.distributed import tensor_model_parallel_all_gather as all_gather

    class InternLM2Attention(original):  # type: ignore[misc]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            self._topology = head_topology(
                self.total_num_heads, self.total_num_kv_heads, self.head_dim, self.tp_size,
                self.tp_rank,
            )  # fmt: skip

        def split_qkv(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            """``[T, rows of this rank]`` to its Q, K and V.

            vLLM loads as if the rows were those of Q, then K, then V; what a rank has is therefore
            a part of each third, and only all ranks together have whole heads.
            """
            here = self._topology
            if here.kv_replicas == 1:
                split: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = super().split_qkv(qkv)
                return split
            tokens, groups = qkv.shape[0], self.total_num_heads // self.total_num_kv_heads
            ranks = all_gather(qkv).view(tokens, self.tp_size, -1)
            thirds = ranks.split((self.q_size, self.kv_size, self.kv_size), dim=-1)
            # Ranks that share a KV head have the same rows of the last two thirds.
            rows = (thirds[0], *(third[:, :: here.kv_replicas] for third in thirds[1:]))
            stored = torch.cat([part.flatten(1) for part in rows], dim=-1)
            heads = stored.view(tokens, self.total_num_kv_heads, groups + 2, self.head_dim)
            queries = heads[:, :, :groups].flatten(1, 2)
            q = queries[:, here.query_heads_here.start : here.query_heads_here.stop]
            k, v = heads[:, here.kv_heads_here.start, -2], heads[:, here.kv_heads_here.start, -1]
            return q.flatten(1), k, v

    return InternLM2Attention
