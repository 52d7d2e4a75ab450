# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's attention on one batch, from its metadata to its output, of the chip emulated."""

from types import SimpleNamespace
from typing import Any

import torch
from attention_kit import SCALE, Batch

from vllm_ascend_bringup.emulation.device import chip
from vllm_ascend_bringup.emulation.formats import FRACTAL_NZ, ND

CPU = torch.device("cpu")
# torch_npu without and with the operators that take a mask of fixed size.
VERSIONS = {"whole masks": "2.10.0", "compressed masks": "2.10.0.post4"}
# vllm-ascend's states, and the batches that are in them.
STATES: dict[str, dict[str, Any]] = {
    "PrefillNoCache": {"fresh": True},
    "DecodeOnly": {"decode": True},
    "ChunkedPrefill": {},
    "PrefillCacheHit": {},
    "SpecDecoding": {"each": 4},
}
POOLING = SimpleNamespace(runner_type="pooling", dtype=torch.float16)


def classes() -> tuple[Any, Any]:
    """Of vllm-ascend, for the chip emulated: what builds metadata, and the attention."""
    if chip().fractal_attention:
        from vllm_ascend._310p.attention.attention_v1 import AscendAttentionBackendImpl310
        from vllm_ascend._310p.attention.metadata_builder import AscendAttentionMetadataBuilder310

        return AscendAttentionMetadataBuilder310, AscendAttentionBackendImpl310
    from vllm_ascend.attention.attention_v1 import (
        AscendAttentionBackendImpl,
        AscendAttentionMetadataBuilder,
    )

    return AscendAttentionMetadataBuilder, AscendAttentionBackendImpl


def block_size(batch: Batch) -> int:
    found: int = batch.key_cache.shape[2 if chip().fractal_attention else 1]
    return found


def slots(batch: Batch, *, of_the_step: bool) -> torch.Tensor:
    """Where the tokens of this step go in the cache, or those of earlier ones."""
    size = block_size(batch)
    found = []
    for row, count, length in zip(batch.table.tolist(), batch.queries, batch.contexts, strict=True):
        before = length - count
        positions = range(before, length) if of_the_step else range(before)
        found += [row[at // size] * size + at % size for at in positions]
    return batch.int32(found)


def rows(batch: Batch, tensors: list[torch.Tensor], *, of_the_step: bool) -> torch.Tensor:
    """Keys or values of these tokens."""
    return torch.cat(
        [
            tensor[-count:] if of_the_step else tensor[:-count]
            for tensor, count in zip(tensors, batch.queries, strict=True)
        ]
    )


def metadata(batch: Batch, state: str, config: Any, pooling: Any = None) -> Any:
    """By vllm-ascend's builder. pooling: a model's config in place of the one of ``config``."""
    from vllm.v1.kv_cache_interface import FullAttentionSpec
    from vllm_ascend.attention.attention_v1 import AscendAttentionState
    from vllm_ascend.attention.utils import AscendCommonAttentionMetadata

    starts = batch.int32([0, *batch.queries]).cumsum(0, dtype=torch.int32)
    left_over = torch.cat([starts, batch.int32([9999])])  # the runner's buffer is longer
    lengths = batch.int32(batch.contexts)
    common = AscendCommonAttentionMetadata(
        query_start_loc=starts, query_start_loc_cpu=left_over, seq_lens=lengths,
        seq_lens_cpu=lengths, num_reqs=len(batch.queries), num_actual_tokens=len(batch.query),
        max_query_len=max(batch.queries), max_seq_len=max(batch.contexts),
        block_table_tensor=batch.table, slot_mapping=slots(batch, of_the_step=True),
        attn_state=AscendAttentionState[state], causal=pooling is None,
    )  # fmt: skip
    spec = FullAttentionSpec(
        block_size=block_size(batch), num_kv_heads=batch.kv_heads,
        head_size=batch.query.shape[2], dtype=batch.query.dtype,
    )  # fmt: skip
    builder = classes()[0](spec, ["layer"], config, CPU)
    builder.model_config = pooling or builder.model_config
    return builder.build(0, common)


def attention(
    batch: Batch, state: str, config: Any, torch_npu: Any, pooling: Any = None,
    window: int | None = None,
) -> torch.Tensor:  # fmt: skip
    """The cache of earlier steps, written by vllm-ascend, then this step."""
    from vllm.forward_context import set_forward_context

    size = batch.query.shape[2]
    impl = classes()[1](
        batch.heads, size, SCALE, batch.kv_heads, None, window, "auto", None, "decoder", None
    )
    acl_format = FRACTAL_NZ if chip().fractal_attention else ND
    caches = [
        torch_npu.empty_with_format(
            size=batch.key_cache.shape, dtype=batch.query.dtype, device=CPU, acl_format=acl_format
        ).fill_(float("nan"))
        for _ in range(2)
    ]
    layer = SimpleNamespace(_k_scale_float=1.0, _v_scale_float=1.0)
    key, value = (rows(batch, part, of_the_step=False) for part in (batch.keys, batch.values))
    impl.do_kv_cache_update(layer, key, value, caches, slots(batch, of_the_step=False))
    key, value = (rows(batch, part, of_the_step=True) for part in (batch.keys, batch.values))
    out = torch.full_like(batch.query, float("nan"))
    with set_forward_context(None, config):
        found: torch.Tensor = impl.forward(
            layer, batch.query, key, value, caches, metadata(batch, state, config, pooling), out
        )
    return found
