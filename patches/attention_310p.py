# SPDX-License-Identifier: Apache-2.0
"""Attention of the 310P with masks no larger than a batch needs, windows, and true pooling.

Each of the three stands on its own: without the others, vllm-ascend's parts still agree.
"""

import functools
from typing import Any

import torch

from vllm_ascend_bringup.attention.compressed import compressed_masks_work, in_nz
from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.attention.step import Step, int32
from vllm_ascend_bringup.errors import PlatformError

_STEP = "bringup_step"


def _masks(device: torch.device, vllm_config: Any) -> LegacyMasks:
    """For all layers and builders on a device: they see the same batches."""
    return _masks_up_to(device, vllm_config.scheduler_config.max_num_batched_tokens)


@functools.cache
def _masks_up_to(device: torch.device, longest_prompt: int) -> LegacyMasks:
    import torch_npu

    mark = functools.partial(in_nz, torch_npu)
    return LegacyMasks(torch.float16, device, longest_prompt, mark=mark)


def compressed_masks(original: Any) -> Any:
    """``is_compressed_mask_supported``, asking the operators instead of torch_npu's list."""

    def is_compressed_mask_supported() -> bool:
        import torch_npu
        from vllm.logger import init_logger

        # vllm-ascend's own question comes first: where it says no, nothing is run.
        if not original():
            return False
        if reason := compressed_masks_work(torch_npu):
            logger = init_logger("vllm.ascend_bringup")
            logger.warning_once("masks of fixed size are not used: %s", reason)
        return not reason

    return is_compressed_mask_supported


def metadata_builder(original: Any) -> Any:
    """``AscendAttentionMetadataBuilder310``, whose masks are as long as the prompts of a batch."""

    class AscendAttentionMetadataBuilder310(original):  # type: ignore[misc]
        def __init__(
            self, kv_cache_spec: Any, layer_names: Any, vllm_config: Any, device: torch.device
        ) -> None:
            super().__init__(kv_cache_spec, layer_names, vllm_config, device)
            masks = _masks(device, vllm_config)
            self.attn_mask_builder: Any = _PromptMasks(self.attn_mask_builder, masks)

        def build(
            self, common_prefix_len: int, common_attn_metadata: Any, *more: Any, **named: Any
        ) -> Any:
            # What is behind the batch's own is left from larger ones.
            starts = common_attn_metadata.query_start_loc_cpu[: common_attn_metadata.num_reqs + 1]
            self.attn_mask_builder.longest = int(starts.diff().max())
            return super().build(common_prefix_len, common_attn_metadata, *more, **named)

    return AscendAttentionMetadataBuilder310


class _PromptMasks:
    """In place of a builder's ``AttentionMaskBuilder310``. longest: prompt of this batch."""

    def __init__(self, original: Any, masks: LegacyMasks) -> None:
        self.original, self.masks, self.longest = original, masks, 1

    def get_attention_mask(self, causal: bool, model_config: Any) -> torch.Tensor:
        """See vllm-ascend. Without causality always a whole one: fixed sizes cannot say that."""
        everything = getattr(model_config, "runner_type", None) == "pooling" and not causal
        if self.original.support_compressed_mask and not everything:
            mask: torch.Tensor = self.original.get_attention_mask(causal, model_config)
            return mask
        return self.masks.prompt(self.longest, causal=not everything)


def attention(original: Any) -> Any:
    """``AscendAttentionBackendImpl310`` with rows of masks for the chunks of a batch."""

    class AscendAttentionBackendImpl310(original):  # type: ignore[misc]
        def __init__(
            self, num_heads: int, head_size: int, scale: float, num_kv_heads: int,
            alibi_slopes: Any, sliding_window: int | None, kv_cache_dtype: str,
            logits_soft_cap: float | None, *more: Any, **named: Any,
        ) -> None:  # fmt: skip
            super().__init__(
                num_heads, head_size, scale, num_kv_heads, alibi_slopes, sliding_window,
                kv_cache_dtype, logits_soft_cap, *more, **named,
            )  # fmt: skip
            longest = self.vllm_config.model_config.max_model_len
            seen = sliding_window or longest
            self.window = seen if seen < longest else None
            _refuse({
                "ALiBi": alibi_slopes is not None,
                "a soft cap of logits": bool(logits_soft_cap),
                "attention sinks": self.sinks is not None,
                "a window without causality":
                    self.window is not None and "encoder" in str(self.attn_type),
            })  # fmt: skip

        def forward_prefill_310(
            self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_metadata: Any,
            output: torch.Tensor,
        ) -> Any:  # fmt: skip
            if self.support_compressed_mask and self.window is None:
                return super().forward_prefill_310(query, key, value, attn_metadata, output)
            lengths = attn_metadata.seq_lens.tolist()
            # Rows of padding count as the last request's; its own tokens do not see them.
            lengths[-1] += len(query) - sum(lengths)
            mask = _masks(query.device, self.vllm_config).prompt(max(lengths), window=self.window)
            return self._with_mask(query, key, value, mask, lengths, output)

        def _forward_encoder_attention(
            self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, attn_metadata: Any,
            output: torch.Tensor,
        ) -> torch.Tensor:  # fmt: skip
            lengths = attn_metadata.seq_lens.tolist()
            mask = _masks(query.device, self.vllm_config).prompt(max(lengths), causal=False)
            return self._with_mask(query, key, value, mask, lengths, output)

        def _with_mask(
            self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
            mask: torch.Tensor, lengths: list[int], output: torch.Tensor,
        ) -> torch.Tensor:  # fmt: skip
            import torch_npu

            torch_npu._npu_flash_attention(
                query=query, key=key, value=value, mask=mask, seq_len=int32(lengths),
                scale_value=self.scale, num_heads=self.num_heads, num_kv_heads=self.num_kv_heads,
                out=output,
            )  # fmt: skip
            return output

        def forward_paged_attention(
            self, query: torch.Tensor, attn_metadata: Any, output: Any = None
        ) -> Any:
            if self.window is None:
                return super().forward_paged_attention(query, attn_metadata, output)
            _refuse({"a sliding window in a captured graph": _capturing()})
            if _step(attn_metadata, _masks(query.device, self.vllm_config)).within(self.window):
                return super().forward_paged_attention(query, attn_metadata, output)
            return self.forward_chunked_prefill_310(query, attn_metadata, output)

        def forward_chunked_prefill_310(
            self, query: torch.Tensor, attn_metadata: Any, output: torch.Tensor
        ) -> Any:
            import torch_npu

            if self.support_compressed_mask and self.window is None:
                return super().forward_chunked_prefill_310(query, attn_metadata, output)
            _refuse({"a mask that follows the batch in a captured graph": _capturing()})
            masks = _masks(query.device, self.vllm_config)
            for call in _step(attn_metadata, masks).calls(self.window):
                torch_npu._npu_paged_attention_splitfuse(
                    query=query[call.tokens], key_cache=self.key_cache,
                    value_cache=self.value_cache, mask=call.mask,
                    block_table=attn_metadata.block_tables[call.requests], seq_len=call.seq_len,
                    context_lens=call.context_lens, num_kv_heads=self.num_kv_heads,
                    num_heads=self.num_heads, scale_value=self.scale, out=output[call.tokens],
                )  # fmt: skip
            return output

    return AscendAttentionBackendImpl310


def _step(attn_metadata: Any, masks: LegacyMasks) -> Step:
    """Made by the first layer of a step that needs it, and kept with the step's metadata.

    Of the device's lengths: with asynchronous speculative decoding the host's run ahead.
    """
    made: Step | None = getattr(attn_metadata, _STEP, None)
    if made is None:
        queries = attn_metadata.query_start_loc.diff().tolist()
        while queries and not queries[-1]:  # requests that only pad the batch
            queries.pop()
        lengths = attn_metadata.seq_lens.tolist()[: len(queries)]
        made = Step(queries, lengths, True, masks)
        setattr(attn_metadata, _STEP, made)
    return made


def _capturing() -> bool:
    from vllm_ascend.ascend_forward_context import _EXTRA_CTX

    return bool(_EXTRA_CTX.capturing)


def _refuse(features: dict[str, bool]) -> None:
    """Raise PlatformError for the first that is wanted: no operator of the 310P computes it."""
    if wanted := [name for name, asked in features.items() if asked]:
        graph = "graph" in wanted[0]
        raise PlatformError(
            f"{wanted[0]} on the 310P",
            "attention that one of its operators computes",
            "vllm serve --enforce-eager" if graph else "serve this model on another chip",
        )
