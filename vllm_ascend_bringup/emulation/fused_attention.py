# SPDX-License-Identifier: Apache-2.0
"""Attention of packed tokens, in the forms of A2 and A3.

Limits are those of torch_npu's documentation (op-plugin 517f2e7d), but for head sizes of TND: it
names 128 and 192 only, and vLLM-Ascend serves others.
"""

from functools import cache

import torch

from vllm_ascend_bringup.emulation.attention_checks import (
    check_dtypes,
    check_format,
    check_plain_chip,
    refuse,
)
from vllm_ascend_bringup.emulation.formats import ND
from vllm_ascend_bringup.kernels import fused_infer_attention as kernel
from vllm_ascend_bringup.kernels.fused_infer_attention import UNLIMITED

_SIDE = 2048  # of a mask of fixed size
_REQUESTS, _HEADS, _GROUP, _HEAD_SIZE, _BLOCK = 4096, 256, 64, 512, 1024
# Size of a head, and of its rotary part where it is apart; the first is MLA's latent.
_LATENT, _ROTARY = 512, 64
_LATENT_HEADS = 128
_WITH_ROTARY = ((_LATENT, _ROTARY), (128, _ROTARY))


def fused_infer_attention_score(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    atten_mask: torch.Tensor | None = None,
    actual_seq_lengths: list[int] | None = None,
    actual_seq_lengths_kv: list[int] | None = None,
    block_table: torch.Tensor | None = None,
    query_rope: torch.Tensor | None = None,
    key_rope: torch.Tensor | None = None,
    num_heads: int = 1,
    scale: float = 1.0,
    pre_tokens: int = UNLIMITED,
    next_tokens: int = UNLIMITED,
    input_layout: str = "BSH",
    num_key_value_heads: int = 0,
    sparse_mode: int = 0,
    block_size: int = 0,
    **others: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """See the kernel for the layout TND; the attention, and softmax_lse.

    BNSD_NBSD is emulated for one query of each request over pages: query ``[B, heads, 1, d]``, to
    ``[heads, B, 1, dv]``. The mask has to be causal. Without softmax_lse_flag, which is refused,
    the documentation promises one zero as softmax_lse and op-plugin's source an empty tensor: here
    it is NaN. Of one query the documentation says that sparse_mode and pre_tokens do nothing, and
    leaves open whether that holds in TND: here they do what they do to several.
    """
    check_plain_chip()
    refuse(*others)
    by_heads = input_layout == "BNSD_NBSD"
    if by_heads:
        if query.dim() != 4 or query.shape[2] != 1 or block_table is None or actual_seq_lengths:
            refuse("BNSD_NBSD of several queries, with their lengths, or without pages")
        query, actual_seq_lengths = query.squeeze(2), list(range(1, len(query) + 1))
        query_rope = None if query_rope is None else query_rope.squeeze(2)
    elif input_layout != "TND":
        refuse(f"input_layout {input_layout}")
    if sparse_mode in (1, 2) or (sparse_mode == 0 and atten_mask is not None):
        refuse(f"sparse_mode {sparse_mode} with a mask")
    if actual_seq_lengths is None or actual_seq_lengths_kv is None:
        raise ValueError("actual_seq_lengths or actual_seq_lengths_kv is None: expected totals")
    ropes = [rope for rope in (query_rope, key_rope) if rope is not None]
    check_dtypes(query, key, value, *ropes)
    for name, tensor in (("key", key), ("value", value)):
        check_format(name, tensor, ND)
    _check_sizes(query, query_rope, num_heads, num_key_value_heads or num_heads)
    if len(actual_seq_lengths) > _REQUESTS:
        raise ValueError(f"{len(actual_seq_lengths)} requests: expected at most {_REQUESTS}")
    if block_table is not None:
        _check_pages(block_table, block_size, len(actual_seq_lengths))
    if atten_mask is not None:
        _check_causal(atten_mask)
    found = kernel.fused_infer_attention(
        query, key, value, atten_mask=atten_mask, actual_seq_lengths=actual_seq_lengths,
        actual_seq_lengths_kv=actual_seq_lengths_kv, block_table=block_table,
        query_rope=query_rope, key_rope=key_rope, num_heads=num_heads, scale=scale,
        pre_tokens=pre_tokens, next_tokens=next_tokens, num_key_value_heads=num_key_value_heads,
        sparse_mode=sparse_mode, block_size=block_size,
    )  # fmt: skip
    if by_heads:
        found = found.transpose(0, 1).unsqueeze(2).contiguous()
    return found, torch.full((1,), float("nan"))


def fused_infer_attention_score_v2(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    *,
    query_rope: torch.Tensor | None = None,
    key_rope: torch.Tensor | None = None,
    atten_mask: torch.Tensor | None = None,
    actual_seq_qlen: list[int] | None = None,
    actual_seq_kvlen: list[int] | None = None,
    block_table: torch.Tensor | None = None,
    num_query_heads: int = 1,
    num_key_value_heads: int = 0,
    softmax_scale: float = 1.0,
    pre_tokens: int = UNLIMITED,
    next_tokens: int = UNLIMITED,
    input_layout: str = "BSH",
    sparse_mode: int = 0,
    block_size: int = 0,
    **others: object,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same by other names."""
    refuse(*others)
    return fused_infer_attention_score(
        query, key, value, atten_mask=atten_mask, actual_seq_lengths=actual_seq_qlen,
        actual_seq_lengths_kv=actual_seq_kvlen, block_table=block_table, query_rope=query_rope,
        key_rope=key_rope, num_heads=num_query_heads, scale=softmax_scale, pre_tokens=pre_tokens,
        next_tokens=next_tokens, input_layout=input_layout,
        num_key_value_heads=num_key_value_heads, sparse_mode=sparse_mode, block_size=block_size,
    )  # fmt: skip


def _check_sizes(
    query: torch.Tensor, query_rope: torch.Tensor | None, heads: int, kv_heads: int
) -> None:
    size = query.shape[-1]
    apart = (size, query_rope.shape[-1]) if query_rope is not None else None
    if apart not in _WITH_ROTARY and (apart or size == _LATENT):
        raise ValueError(
            f"heads of {size}, rotary part of {apart[1] if apart else 'none'}: expected one of "
            f"{_WITH_ROTARY}, or another size without"
        )
    found = f"{heads} heads of {size} to {kv_heads} KV heads"
    if size == _LATENT:
        if kv_heads != 1 or heads & (heads - 1) or heads > _LATENT_HEADS:
            raise ValueError(f"{found}: expected a power of two up to {_LATENT_HEADS}, to one")
    elif heads > min(_HEADS, _GROUP * kv_heads) or size % 8 or size > _HEAD_SIZE:
        raise ValueError(
            f"{found}: expected at most {_HEADS}, {_GROUP} to each, and a size that is a multiple "
            f"of 8 and at most {_HEAD_SIZE}"
        )


def _check_pages(block_table: torch.Tensor, block_size: int, requests: int) -> None:
    if block_table.dim() != 2 or len(block_table) < requests or block_table.dtype != torch.int32:
        found = f"block_table {block_table.dtype} {list(block_table.shape)}"
        raise ValueError(f"{found}: expected torch.int32 [{requests}, blocks]")
    if not 0 < block_size <= _BLOCK or block_size % 16:
        raise ValueError(f"blocks of {block_size}: expected a multiple of 16, at most {_BLOCK}")


@cache
def _later() -> torch.Tensor:
    return torch.ones(_SIDE, _SIDE, dtype=torch.bool).triu(1)


def _check_causal(mask: torch.Tensor) -> None:
    """Of a mask of fixed size. The kernel refuses other sizes."""
    later = _later()
    if mask.numel() == later.numel() and not torch.equal(mask.reshape(later.shape) != 0, later):
        raise ValueError("mask: expected ones above the diagonal and zeros elsewhere")
