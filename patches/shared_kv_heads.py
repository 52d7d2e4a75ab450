# SPDX-License-Identifier: Apache-2.0
"""Attention classes that count this rank's KV heads as if ranks never shared one.

They are built as if there were a KV head for each rank, which makes every size theirs right, and
then given the projection of the heads that there are.
"""

import copy
from typing import Any

import torch


def gpt_oss(original: Any) -> Any:
    """``OAIAttention``, the same wherever vLLM's own is right."""

    class OAIAttention(original):  # type: ignore[misc]
        def __init__(self, config: Any, quant_config: Any = None, **named: Any) -> None:
            kv_heads = config.num_key_value_heads
            super().__init__(_for_each_rank(config), quant_config, **named)
            _project(self, kv_heads, quant_config)

    return OAIAttention


def param2moe(original: Any) -> Any:
    """``Param2MoEAttention``, the same wherever vLLM's own is right."""

    class Param2MoEAttention(original):  # type: ignore[misc]
        def __init__(
            self, config: Any, cache_config: Any = None, quant_config: Any = None, prefix: str = ""
        ) -> None:
            kv_heads = config.num_key_value_heads
            super().__init__(_for_each_rank(config), cache_config, quant_config, prefix)
            _project(self, kv_heads, quant_config)

    return Param2MoEAttention


def openpangu(original: Any) -> Any:
    """``OpenPanguSinkAttention``, the same wherever vLLM's own is right."""
    from vllm.distributed import get_tensor_model_parallel_world_size as ranks

    class OpenPanguSinkAttention(original):  # type: ignore[misc]
        def __init__(
            self, config: Any, hidden_size: int, num_heads: int, num_kv_heads: int, **named: Any
        ) -> None:
            self._replicas = max(1, ranks() // num_kv_heads)
            super().__init__(config, hidden_size, num_heads, num_kv_heads * self._replicas, **named)
            _project(self, num_kv_heads, named.get("quant_config"))

        def weight_loader(self, param: torch.nn.Parameter, loaded_weight: torch.Tensor) -> None:
            """Of the sinks, ``[sinks, KV heads, size]``."""
            super().weight_loader(param, loaded_weight.repeat_interleave(self._replicas, dim=1))

    return OpenPanguSinkAttention


def _for_each_rank(config: Any) -> Any:
    """The config, with as many KV heads as ranks if there are fewer."""
    from vllm.distributed import get_tensor_model_parallel_world_size

    ranks = get_tensor_model_parallel_world_size()
    if config.num_key_value_heads >= ranks:
        return config
    config = copy.copy(config)
    config.num_key_value_heads = ranks
    return config


def _project(attention: Any, kv_heads: int, quant_config: Any) -> None:
    """Replace the projection of an attention that counts other KV heads than there are."""
    from vllm.model_executor.layers.linear import QKVParallelLinear

    built = attention.qkv_proj
    if built.total_num_kv_heads != kv_heads:
        attention.qkv_proj = QKVParallelLinear(
            built.hidden_size, built.head_size, built.total_num_heads, kv_heads,
            bias=built.bias is not None, quant_config=quant_config, prefix=built.prefix,
        )  # fmt: skip
