# SPDX-License-Identifier: Apache-2.0
"""Norms over the whole of Q and K, where ranks share KV heads: OLMoE, OLMo Hybrid, Molmo, Molmo 2.

No hook suffices: the layer classes name their attention classes themselves.
"""

from typing import Any

import torch

from vllm_ascend_bringup.head_topology import head_topology
from vllm_ascend_bringup.qk_norm import TensorParallelRMSNorm


def attention(original: Any) -> Any:
    """The attention class, the same wherever vLLM's own is right."""
    from vllm.distributed import tensor_model_parallel_all_reduce as all_reduce
    from vllm.distributed.parallel_state import get_tp_group

    class WholeNormAttention(original):  # type: ignore[misc]
        q_norm: Any
        k_norm: Any

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            topology = head_topology(
                self.total_num_heads, self.total_num_kv_heads, self.head_dim, self.tp_size,
                get_tp_group().rank_in_group,
            )  # fmt: skip
            query_width = self.total_num_heads * self.head_dim
            # Molmo can do without norms, and Molmo 2 with norms of one head, which are right.
            whole = self.q_norm is not None and self.q_norm.weight.shape == (query_width,)
            self._shares_heads = whole and topology.kv_replicas > 1
            if self._shares_heads:
                eps = self.k_norm.variance_epsilon
                self.q_norm = TensorParallelRMSNorm(
                    topology.query_rows, query_width, eps, all_reduce=all_reduce
                )
                self.k_norm = TensorParallelRMSNorm(
                    topology.kv_rows, self.total_num_kv_heads * self.head_dim, eps,
                    replicas=topology.kv_replicas, all_reduce=all_reduce,
                )  # fmt: skip

        def _apply_qk_norm(
            self, q: torch.Tensor, k: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if self._shares_heads:
                return self.q_norm(q), self.k_norm(k)
            normalized: tuple[torch.Tensor, torch.Tensor] = super()._apply_qk_norm(q, k)
            return normalized

    return WholeNormAttention
