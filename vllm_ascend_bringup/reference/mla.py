# SPDX-License-Identifier: Apache-2.0
"""MLA on the reference platform: latents and rotary parts in two caches, as on A2 and A3.

    [blocks, block_size, 1, kv_lora_rank] and [blocks, block_size, 1, qk_rope_head_dim]

Prompts attend to keys and values made of the latents again, tokens that are decoded to the latents
themselves; both through the one operator that vllm-ascend uses for both.
"""

from itertools import accumulate
from typing import Any

import torch
from vllm.model_executor.layers.attention.mla_attention import (
    MLACommonBackend,
    MLACommonImpl,
    MLACommonMetadata,
    MLACommonMetadataBuilder,
)

from vllm_ascend_bringup.kernels.attention_core import read_caches
from vllm_ascend_bringup.kernels.fused_infer_attention import fused_infer_attention
from vllm_ascend_bringup.kernels.reshape_and_cache import reshape_and_cache
from vllm_ascend_bringup.reference.attention import CAUSAL_MASK


class ReferenceMLABackend(MLACommonBackend):
    """A2 and A3."""

    @staticmethod
    def get_name() -> str:
        """The name of what it stands in for, since vLLM looks it up among its own."""
        return "CPU_MLA"

    @staticmethod
    def get_supported_kernel_block_sizes(kv_cache_spec: Any = None) -> list[int]:
        """Blocks of the one size that vllm-ascend uses."""
        return [128]

    @staticmethod
    def get_impl_cls() -> Any:
        """See vLLM."""
        return ReferenceMLAImpl

    @staticmethod
    def get_builder_cls() -> Any:
        """See vLLM."""
        return ReferenceMLAMetadataBuilder


class ReferenceMLAMetadataBuilder(MLACommonMetadataBuilder[MLACommonMetadata]):
    """vLLM's, and how many keys each request has that is not decoded."""

    def build(
        self, common_prefix_len: int, common_attn_metadata: Any, fast_build: bool = False
    ) -> MLACommonMetadata:
        """See vLLM."""
        made = super().build(common_prefix_len, common_attn_metadata, fast_build)
        if made.prefill is not None:
            requests = slice(made.num_decodes, made.num_decodes + made.num_prefills)
            made.prefill.lengths = common_attn_metadata.seq_lens[requests]
        return made


class ReferenceMLAImpl(MLACommonImpl[MLACommonMetadata]):
    """See the module."""

    def _caches(self, kv_cache: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """kv_cache: ``[blocks, block_size, kv_lora_rank + qk_rope_head_dim]``, contiguous."""
        blocks, block_size, _ = kv_cache.shape
        flat, latents = kv_cache.view(-1), blocks * block_size * self.kv_lora_rank
        return (
            flat[:latents].view(blocks, block_size, 1, self.kv_lora_rank),
            flat[latents:].view(blocks, block_size, 1, self.qk_rope_head_dim),
        )

    def do_kv_cache_update(
        self,
        kv_c_normed: torch.Tensor,
        k_pe: torch.Tensor,
        kv_cache: torch.Tensor,
        slot_mapping: torch.Tensor,
        kv_cache_dtype: str,
        k_scale: torch.Tensor,
    ) -> None:
        """See vLLM: kv_c_normed ``[T, kv_lora_rank]``, k_pe ``[T, 1, qk_rope_head_dim]``."""
        if kv_cache.numel() == 0:  # while vLLM measures memory
            return
        slots = slot_mapping.flatten().int()
        rows = slice(len(slots))
        reshape_and_cache(
            kv_c_normed[rows, None], k_pe[rows].view(-1, 1, self.qk_rope_head_dim),
            *self._caches(kv_cache), slots, nz=False,
        )  # fmt: skip

    def forward_mqa(
        self,
        q: torch.Tensor | tuple[torch.Tensor, torch.Tensor],
        kv_c_and_k_pe_cache: torch.Tensor,
        attn_metadata: MLACommonMetadata,
        layer: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """See vLLM: queries that are absorbed, to sums of latents ``[B, H, kv_lora_rank]``."""
        decode = attn_metadata.decode
        if not isinstance(q, tuple):
            q = tuple(q.split([self.kv_lora_rank, self.qk_rope_head_dim], -1))
        query, query_rope = q
        latents, ropes = (cache.flatten(2) for cache in self._caches(kv_c_and_k_pe_cache))
        found = fused_infer_attention(
            query, latents, latents, query_rope=query_rope, key_rope=ropes,
            actual_seq_lengths=list(range(1, len(query) + 1)),
            actual_seq_lengths_kv=decode.seq_lens.tolist(), block_table=decode.block_table.int(),
            block_size=latents.shape[1], num_heads=self.num_heads, num_key_value_heads=1,
            scale=self.scale, sparse_mode=3, atten_mask=CAUSAL_MASK,
        )  # fmt: skip
        return found, None

    def forward_mha(
        self,
        q: torch.Tensor,
        kv_c_normed: torch.Tensor,
        k_pe: torch.Tensor,
        kv_c_and_k_pe_cache: torch.Tensor,
        attn_metadata: MLACommonMetadata,
        k_scale: torch.Tensor,
        output: torch.Tensor,
        output_scale: torch.Tensor | None = None,
    ) -> None:
        """See vLLM: q ``[T, H, qk_head_dim]``, output ``[T, H * v_head_dim]``.

        All keys come from the cache, where this step's are already.
        """
        prefill = attn_metadata.prefill
        lengths = prefill.lengths
        caches = self._caches(kv_c_and_k_pe_cache)
        read = read_caches(caches, prefill.block_table, lengths, 1, nz=False)
        own = torch.arange(int(lengths.max())) < lengths[:, None]
        latents, ropes = (rows[own] for rows in read)
        expanded = self.kv_b_proj(latents.flatten(1))[0].view(len(latents), self.num_heads, -1)
        key, value = expanded.split([self.qk_nope_head_dim, self.v_head_dim], -1)
        query, query_rope = q.split([self.qk_nope_head_dim, self.qk_rope_head_dim], -1)
        found = fused_infer_attention(
            query, key, value, query_rope=query_rope,
            key_rope=ropes.expand(-1, self.num_heads, -1),
            actual_seq_lengths=prefill.query_start_loc[1:].tolist(),
            actual_seq_lengths_kv=list(accumulate(lengths.tolist())), num_heads=self.num_heads,
            scale=self.scale, sparse_mode=3, atten_mask=CAUSAL_MASK,
        )  # fmt: skip
        output.copy_(found.flatten(1))
