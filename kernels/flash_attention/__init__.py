# SPDX-License-Identifier: Apache-2.0
"""Attention of fresh prompts, with a mask that is given: _npu_flash_attention of the 310P.

For each request of n tokens, softmax(q k^T * scale + mask[:n, :n]) v.
"""

from typing import TYPE_CHECKING

from vllm_ascend_bringup.kernels.dispatch import choose
from vllm_ascend_bringup.kernels.nz_layout import ROWS

if TYPE_CHECKING:
    import torch


def flash_attention(
    query: "torch.Tensor",
    key: "torch.Tensor",
    value: "torch.Tensor",
    mask: "torch.Tensor",
    seq_len: "torch.Tensor",
    scale_value: float,
    num_heads: int,
    num_kv_heads: int,
    out: "torch.Tensor",
    *,
    implementation: str | None = None,
) -> None:
    """query, out: ``[T, num_heads, d]``. key, value: ``[T, num_kv_heads, d]``. mask:
    ``[1, side / 16, side, 16]`` of query's dtype, added to scores. seq_len: int32 ``[B]`` on the
    host, tokens of each request; rows past their sum are left as they are.

    Raises ValueError if the arguments do not fit together.
    """
    import torch

    if seq_len.dtype != torch.int32 or seq_len.device.type != "cpu" or seq_len.dim() != 1:
        raise ValueError(f"seq_len {seq_len.dtype} on {seq_len.device}: expected int32 on the host")
    heads = {
        "query": (query, num_heads),
        "key": (key, num_kv_heads),
        "value": (value, num_kv_heads),
    }
    for name, (tensor, count) in heads.items():
        if tensor.dim() != 3 or tensor.shape[1] != count or len(tensor) != len(query):
            expected = [len(query), count, "d"]
            raise ValueError(f"{name} {list(tensor.shape)}: expected {expected}")
    lengths = seq_len.tolist()
    if not lengths or min(lengths) < 1 or sum(lengths) > len(query) or num_heads % num_kv_heads:
        raise ValueError(
            f"lengths {lengths} of {len(query)} tokens, {num_heads} heads on {num_kv_heads}: "
            "expected at least one token each, no more than there are, and whole groups of heads"
        )
    side = -(-max(lengths) // ROWS) * ROWS
    fits = mask.dim() == 4 and mask.shape[0] == 1 and mask.shape[3] == ROWS
    if not fits or mask.shape[2] < side or mask.shape[1] * ROWS < side or mask.dtype != query.dtype:
        expected = [1, f">= {side // ROWS}", f">= {side}", ROWS]
        raise ValueError(f"mask {mask.dtype} {list(mask.shape)}: expected {query.dtype} {expected}")
    choose("flash_attention", implementation)(query, key, value, mask, lengths, scale_value, out)
