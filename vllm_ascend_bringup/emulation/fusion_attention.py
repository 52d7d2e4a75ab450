# SPDX-License-Identifier: Apache-2.0
"""npu_fusion_attention, made for training, which vLLM-Ascend calls for encoders."""

import torch

from vllm_ascend_bringup.emulation.attention_checks import (
    check_dtypes,
    check_plain_chip,
    refuse,
)
from vllm_ascend_bringup.kernels.fused_infer_attention import UNLIMITED, fused_infer_attention

# By torch_npu's documentation (op-plugin 517f2e7d).
_HEADS, _HEAD_SIZE = 256, 768


def fusion_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    head_num: int,
    input_layout: str,
    pse: torch.Tensor | None = None,
    padding_mask: torch.Tensor | None = None,
    atten_mask: torch.Tensor | None = None,
    scale: float = 1.0,
    keep_prob: float = 1.0,
    pre_tockens: int = UNLIMITED,
    next_tockens: int = UNLIMITED,
    inner_precise: int = 0,
    prefix: list[int] | None = None,
    actual_seq_qlen: list[int] | None = None,
    actual_seq_kvlen: list[int] | None = None,
    sparse_mode: int = 0,
    gen_mask_parallel: bool = True,
    sync: bool = False,
    softmax_layout: str = "",
    sink: torch.Tensor | None = None,
    dropout_mask: torch.Tensor | None = None,
    seed: int = 0,
    offset: int = 0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, int, int, int]:
    """Without a mask, of the layout TND: every query of a request sees all of its keys.

    query, key, value: ``[tokens, heads, size]``. actual_seq_qlen, actual_seq_kvlen: running totals
    of tokens; zeros at their end are left out, and tokens past them become NaN. Of the results
    only the first is computed: what training needs besides is NaN or zero. Without a mask
    sparse_mode and the numbers of tokens do nothing, by its documentation.
    """
    check_plain_chip()
    given = {
        "pse": pse, "padding_mask": padding_mask, "atten_mask": atten_mask, "prefix": prefix,
        "sink": sink, "dropout_mask": dropout_mask,
    }  # fmt: skip
    refuse(*(name for name, argument in given.items() if argument is not None))
    if input_layout != "TND" or softmax_layout or keep_prob != 1 or inner_precise:
        refuse(
            f"input_layout {input_layout}, softmax_layout {softmax_layout!r}, keep_prob "
            f"{keep_prob}, inner_precise {inner_precise}"
        )
    check_dtypes(query, key, value)
    size = query.shape[-1]
    if query.dim() != 3 or not 0 < head_num <= _HEADS or size > _HEAD_SIZE:
        raise ValueError(
            f"query {list(query.shape)} of {head_num} heads: expected [tokens, heads, size] of at "
            f"most {_HEADS} heads and sizes up to {_HEAD_SIZE}"
        )
    queries, keys = (_totals(lengths) for lengths in (actual_seq_qlen, actual_seq_kvlen))
    out = query.new_full((*query.shape[:2], value.shape[-1]), float("nan"))
    out[: queries[-1]] = fused_infer_attention(
        query[: queries[-1]], key[: keys[-1]], value[: keys[-1]], actual_seq_lengths=queries,
        actual_seq_lengths_kv=keys, num_heads=head_num, num_key_value_heads=key.shape[1],
        scale=scale,
    )  # fmt: skip
    for_training = query.new_full((*query.shape[:2], 8), float("nan"), dtype=torch.float32)
    return out, for_training, for_training.clone(), query.new_empty(0), seed, offset, 0


def _totals(lengths: list[int] | None) -> list[int]:
    used = list(lengths or ())
    while used and not used[-1]:
        used.pop()
    if not used:
        raise ValueError(f"lengths {lengths}: expected running totals, with a token among them")
    return used
