# SPDX-License-Identifier: Apache-2.0
"""OLMoE: norms over the whole of Q and K, where ranks share KV heads.

No hook suffices: the layer class names its attention class itself.
"""

from typing import Any

import torch

from vllm_ascend_bringup.head_topology import head_topology
from vllm_ascend_bringup.qk_norm import TensorParallelRMSNorm


def attention(original: Any) -> Any:
    """``OlmoeAttention``, the same wherever vLLM's own is right."""
    from vllm.distributed import tensor_model_parallel_all_reduce

    class OlmoeAttention(original):  # type: ignore[misc]
        q_norm: Any
        k_norm: Any

        def __init__(self, **arguments: Any) -> None:
            super().__init__(**arguments)
            topology = head_topology(
                self.total_num_heads, self.total_num_kv_heads, self.head_dim, self.tp_size,
                self.tp_rank,
            )  # fmt: skip
            self._shares_heads = topology.kv_replicas > 1
            if self._shares_heads:
                eps, reduce = self.k_norm.variance_epsilon, tensor_model_parallel_all_reduce
                self.q_norm = TensorParallelRMSNorm(
                    topology.query_rows, self.total_num_heads * self.head_dim, eps,
                    all_reduce=reduce,
                )  # fmt: skip
                self.k_norm = TensorParallelRMSNorm(
                    topology.kv_rows, self.total_num_kv_heads * self.head_dim, eps,
                    replicas=topology.kv_replicas, all_reduce=reduce,
                )  # fmt: skip

        def _apply_qk_norm(
            self, q: torch.Tensor, k: torch.Tensor
        ) -> tuple[torch.Tensor, torch.Tensor]:
            if self._shares_heads:
                return self.q_norm(q), self.k_norm(k)
            ours: tuple[torch.Tensor, torch.Tensor] = super()._apply_qk_norm(q, k)
            return ours

    return OlmoeAttention
