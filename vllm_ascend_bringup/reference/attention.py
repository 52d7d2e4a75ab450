# SPDX-License-Identifier: Apache-2.0
"""Attention backends of the reference platform: a chip's KV cache, masks and operators.

vLLM's CPU worker allocates the caches; their storage is taken as what the chip would hold there:

    310P:    [2, blocks, KV * size / 16, block_size, 16]    FRACTAL_NZ
    A2, A3:  [2, blocks, block_size, KV, size]
"""

from abc import abstractmethod
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from vllm.v1.attention.backend import AttentionMetadataBuilder, AttentionType
from vllm.v1.attention.backends.cpu_attn import CPUAttentionBackend, CPUAttentionBackendImpl

from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.attention.step import Step, int32
from vllm_ascend_bringup.errors import PlatformError
from vllm_ascend_bringup.kernels.flash_attention import flash_attention
from vllm_ascend_bringup.kernels.fused_infer_attention import fused_infer_attention
from vllm_ascend_bringup.kernels.paged_attention import paged_attention
from vllm_ascend_bringup.kernels.reshape_and_cache import reshape_and_cache
from vllm_ascend_bringup.kernels.splitfuse_attention import splitfuse_attention

_ENCODER = (AttentionType.ENCODER, AttentionType.ENCODER_ONLY)


@dataclass(kw_only=True)
class ReferenceMetadata(Step):
    """A step, and where its keys are: int32 ``[B, max_blocks]``."""

    block_table: torch.Tensor


class ReferenceMetadataBuilder(AttentionMetadataBuilder[ReferenceMetadata]):
    """Takes a batch from vLLM's runner; keeps the masks between steps."""

    def __init__(self, kv_cache_spec: Any, layer_names: Any, vllm_config: Any, device: Any) -> None:
        super().__init__(kv_cache_spec, layer_names, vllm_config, device)
        self.masks = LegacyMasks(
            vllm_config.model_config.dtype, device,
            vllm_config.scheduler_config.max_num_batched_tokens,
        )  # fmt: skip

    def build(
        self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False
    ) -> ReferenceMetadata:
        """See vLLM. Raises PlatformError for causality that differs within a batch."""
        common = common_attn_metadata
        if not isinstance(common.causal, bool):
            raise PlatformError(
                "a batch whose requests differ in causality",
                "one mask form for a batch, as the chip's operators take it",
                "serve this model without VLLM_ASCEND_BRINGUP_PLATFORM",
            )
        starts = common.query_start_loc_cpu[: common.num_reqs + 1]
        return ReferenceMetadata(
            starts.diff().tolist(), common.seq_lens[: common.num_reqs].tolist(), common.causal,
            self.masks, block_table=common.block_table_tensor.int(),
        )  # fmt: skip


class _ReferenceImpl(CPUAttentionBackendImpl):
    """What both layouts share: the refusals, and the way to the cache."""

    nz: bool

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.window = None if self.sliding_window == -1 else self.sliding_window
        features = {
            "ALiBi": self.alibi_slopes is not None,
            "a soft cap of logits": bool(self.logits_soft_cap),
            "attention sinks": self.sinks is not None,
            "cross attention": self.attn_type == AttentionType.ENCODER_DECODER,
            "a window without causality": self.attn_type in _ENCODER and self.window is not None,
        }
        if refused := [name for name, wanted in features.items() if wanted]:
            raise PlatformError(
                f"{refused[0]} on the reference platform",
                "attention that the chip's operators, or our reference of them, compute",
                "serve this model without VLLM_ASCEND_BRINGUP_PLATFORM",
            )

    def _caches(self, kv_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """kv_cache: ``[blocks, KV, block_size, 2 * size]``, as vLLM's CPU worker made it.

        Layers of other sizes may share it: with blocks of as many bytes, a block's keys and values
        lie in the same place for all of them.
        """
        blocks, kv_heads, block_size, twice = kv_cache.shape
        shape: tuple[int, ...] = (2, blocks, block_size, kv_heads, twice // 2)
        if self.nz:
            shape = (2, blocks, kv_heads * (twice // 2) // 16, block_size, 16)
        key_cache, value_cache = kv_cache.view(shape)
        return key_cache, value_cache

    def do_kv_cache_update(
        self,
        layer: torch.nn.Module,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
    ) -> None:
        """See vLLM."""
        if self.attn_type in _ENCODER:
            return
        tokens = len(slot_mapping)
        reshape_and_cache(
            key[:tokens], value[:tokens], *self._caches(kv_cache), slot_mapping.int(), nz=self.nz
        )

    def forward(
        self,
        layer: Any,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        kv_cache: torch.Tensor,
        attn_metadata: Any,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
        output_block_scale: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """See vLLM: ``output`` ``[T, H, size]`` is written, up to the batch's own tokens."""
        if attn_metadata is not None:  # None while vLLM measures memory
            rows = slice(attn_metadata.tokens)
            self._attend(
                attn_metadata, query[rows], key, value, kv_cache,
                output[rows].view(-1, self.num_heads, self.head_size),
            )  # fmt: skip
        return output

    def is_prompt(self, batch: Step) -> bool:
        """Whether a batch attends to its own keys only, and they need not be read back.

        A layer that shares another's cache has none of its own.
        """
        return self.attn_type in _ENCODER or (
            batch.fresh and self.kv_sharing_target_layer_name is None
        )

    @abstractmethod
    def _attend(
        self, batch: ReferenceMetadata, query: torch.Tensor, key: torch.Tensor,
        value: torch.Tensor, kv_cache: torch.Tensor, out: torch.Tensor,
    ) -> None:  # fmt: skip
        """Write the attention of ``query`` ``[T, H, size]`` into ``out``."""


class ReferenceNZImpl(_ReferenceImpl):
    """The 310P: attention that adds whole masks, keys and values in FRACTAL_NZ."""

    nz = True

    def _attend(
        self, batch: ReferenceMetadata, query: torch.Tensor, key: torch.Tensor,
        value: torch.Tensor, kv_cache: torch.Tensor, out: torch.Tensor,
    ) -> None:  # fmt: skip
        if self.is_prompt(batch):
            mask = batch.masks.prompt(max(batch.queries), causal=batch.causal, window=self.window)
            rows = slice(batch.tokens)
            flash_attention(
                query, key[rows], value[rows], mask, int32(batch.queries), self.scale,
                self.num_heads, self.num_kv_heads, out,
            )  # fmt: skip
            return
        caches = self._caches(kv_cache)
        if batch.decodes(self.window):
            paged_attention(
                query, *caches, self.num_kv_heads, self.num_heads, self.scale, batch.block_table,
                int32(batch.lengths), out, nz=True,
            )  # fmt: skip
            return
        for call in batch.calls(self.window):
            splitfuse_attention(
                query[call.tokens], *caches, batch.block_table[call.requests], call.context_lens,
                call.mask, call.seq_len, self.num_kv_heads, self.num_heads, self.scale,
                out[call.tokens], nz=True,
            )  # fmt: skip


class ReferenceImpl(_ReferenceImpl):
    """A2 and A3: one operator for everything, causality by its sparse mode."""

    nz = False

    def _attend(
        self, batch: ReferenceMetadata, query: torch.Tensor, key: torch.Tensor,
        value: torch.Tensor, kv_cache: torch.Tensor, out: torch.Tensor,
    ) -> None:  # fmt: skip
        ends = list(accumulate(batch.queries))
        if self.is_prompt(batch):
            rows = slice(batch.tokens)
            keys: dict[str, Any] = {
                "key": key[rows],
                "value": value[rows],
                "actual_seq_lengths_kv": ends,
            }
        else:
            key_cache, value_cache = self._caches(kv_cache)
            keys = {
                "key": key_cache.flatten(2), "value": value_cache.flatten(2),
                "actual_seq_lengths_kv": batch.lengths, "block_table": batch.block_table,
                "block_size": key_cache.shape[1],
            }  # fmt: skip
        out[:] = fused_infer_attention(
            query, actual_seq_lengths=ends, num_heads=self.num_heads,
            num_key_value_heads=self.num_kv_heads, scale=self.scale, **keys,
            **_sparse_mode(batch.causal, self.window),
        )  # fmt: skip


# What the operator wants to see in modes 3 and 4; ones are hidden.
CAUSAL_MASK = torch.ones(2048, 2048, dtype=torch.int8).triu_(1)


def _sparse_mode(causal: bool, window: int | None) -> dict[str, Any]:
    """pre_tokens leaves out the query's own key, which vLLM's window counts."""
    if not causal:
        return {"sparse_mode": 0}
    if window is None:
        return {"sparse_mode": 3, "atten_mask": CAUSAL_MASK}
    return {
        "sparse_mode": 4, "atten_mask": CAUSAL_MASK, "pre_tokens": window - 1, "next_tokens": 0
    }  # fmt: skip


class ReferenceBackend(CPUAttentionBackend):
    """A2 and A3."""

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int]:
        """Blocks of the one size that vllm-ascend uses."""
        return [128]

    @classmethod
    def get_supported_head_sizes(cls) -> list[int]:
        """Empty: the platform has checked it against the chip."""
        return []

    @staticmethod
    def get_impl_cls() -> Any:
        """See vLLM."""
        return ReferenceImpl

    @staticmethod
    def get_builder_cls() -> Any:
        """See vLLM."""
        return ReferenceMetadataBuilder


class ReferenceNZBackend128(ReferenceBackend):
    """The 310P, for heads of up to 128."""

    @staticmethod
    def get_impl_cls() -> Any:
        """See vLLM."""
        return ReferenceNZImpl


class ReferenceNZBackend64(ReferenceNZBackend128):
    """The 310P, for larger heads."""

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int]:
        """Half as many tokens, so that a block of a head is no larger."""
        return [64]
