# SPDX-License-Identifier: Apache-2.0
"""Attention classes that count this rank's KV heads as if ranks never shared one.

They are built as if there were a KV head for each rank, which makes every size theirs right, and
then given the projection of the heads that there are.
"""

import copy
from typing import Any

import torch

from vllm_ascend_bringup.head_topology import replicas


def gpt_oss(original: Any) -> Any:
    """``OAIAttention``, the same wherever vLLM's own is right."""

    class OAIAttention(original):  # type: ignore[misc]
        def __init__(self, config: Any, quant_config: Any = None, **named: Any) -> None:
            super().__init__(_for_each_rank(config), quant_config, **named)
            if config.num_key_value_heads < _ranks():
                self.qkv_proj = _projection(self, config, quant_config)

    return OAIAttention


def param2moe(original: Any) -> Any:
    """``Param2MoEAttention``, the same wherever vLLM's own is right."""

    class Param2MoEAttention(original):  # type: ignore[misc]
        def __init__(
            self, config: Any, cache_config: Any = None, quant_config: Any = None, prefix: str = ""
        ) -> None:
            super().__init__(_for_each_rank(config), cache_config, quant_config, prefix)
            if config.num_key_value_heads < _ranks():
                self.qkv_proj = _projection(self, config, quant_config)

    return Param2MoEAttention


def openpangu(original: Any) -> Any:
    """``OpenPanguSinkAttention``, with a projection that can be loaded."""

    class OpenPanguSinkAttention(original):  # type: ignore[misc]
        def __init__(
            self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, **named: Any
        ) -> None:
            self._replicas = replicas(num_kv_heads, _ranks())
            super().__init__(config, hidden_size, num_heads, num_kv_heads * self._replicas, **named)
            # Over any ranks: vLLM's own knows q, k and v by number, its model loads them by name.
            self.qkv_proj = _projection(
                self, config, named.get("quant_config"), v_head_size=self.v_channels
            )

        def weight_loader(self, param: torch.nn.Parameter, loaded_weight: torch.Tensor) -> None:
            """Of the sinks, ``[sinks, KV heads, size]``."""
            super().weight_loader(param, loaded_weight.repeat_interleave(self._replicas, dim=1))

    return OpenPanguSinkAttention


def _ranks() -> int:
    from vllm.distributed import get_tensor_model_parallel_world_size

    ranks: int = get_tensor_model_parallel_world_size()
    return ranks


def _for_each_rank(config: Any) -> Any:
    """The config, with as many KV heads as ranks if there are fewer."""
    config = copy.copy(config)
    config.num_key_value_heads = max(config.num_key_value_heads, _ranks())
    return config


def _projection(attention: Any, config: Any, quant_config: Any, **named: Any) -> Any:
    """Of Q, K and V with the KV heads that the config counts."""
    from vllm.model_executor.layers.linear import QKVParallelLinear

    built = attention.qkv_proj
    return QKVParallelLinear(
        config.hidden_size, attention.head_dim, config.num_attention_heads,
        config.num_key_value_heads, bias=built.bias is not None, quant_config=quant_config,
        prefix=built.prefix, **named,
    )  # fmt: skip
