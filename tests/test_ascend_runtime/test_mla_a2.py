# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's decode of MLA on A2 and A3, after its projections, against torch's own."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from ascend_runtime import MARKS, InstallChip
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch

pytestmark = MARKS

LATENT, ROTARY, VALUES = 512, 64, 32


def decode_metadata(batch: Batch) -> Any:
    from vllm_ascend.attention.attention_v1 import AscendAttentionState
    from vllm_ascend.attention.mla_v1 import AscendMLADecodeMetadata, AscendMLAMetadata

    lengths, starts = batch.int32(batch.contexts), torch.arange(len(batch.query) + 1)
    decode = AscendMLADecodeMetadata(
        input_positions=lengths - 1, block_table=batch.table, seq_lens=lengths,
        seq_lens_device=lengths, max_seq_lens=max(batch.contexts), seq_lens_list=batch.contexts,
    )  # fmt: skip
    return AscendMLAMetadata(
        num_actual_tokens=len(batch.query), slot_mapping=starts, query_start_loc=starts,
        seq_lens=lengths, seq_lens_cpu=lengths, block_tables=batch.table,
        num_decodes=len(batch.query), num_decode_tokens=len(batch.query), num_prefills=0,
        attn_state=AscendAttentionState.DecodeOnly, decode=decode,
    )  # fmt: skip


@pytest.mark.parametrize("chip", ["a2", "a3"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_decode(
    chip: str, dtype: torch.dtype, ascend_config: Any, install_chip: InstallChip
) -> None:
    """Three heads are padded to four. The projection of values only picks columns, so that one
    rounding is all there is.
    """
    install_chip(chip)
    from vllm.forward_context import set_forward_context
    from vllm_ascend.attention.mla_v1 import AscendMLAImpl

    heads = set()
    for seed in range(20):
        batch = random_batch(
            seed, nz=False, dtype=dtype, decode=True, kv_heads=1, size=LATENT + ROTARY
        )
        heads.add(batch.heads)
        impl = AscendMLAImpl(
            batch.heads, LATENT + ROTARY, SCALE, 1, None, None, "auto", None, "decoder", None,
            q_lora_rank=None, kv_lora_rank=LATENT, qk_nope_head_dim=VALUES, qk_rope_head_dim=ROTARY,
            qk_head_dim=VALUES + ROTARY, v_head_dim=VALUES, rotary_emb=None, q_proj=None,
            kv_b_proj=None, o_proj=None,
        )  # fmt: skip
        picked = torch.stack([torch.randperm(LATENT)[:VALUES] for _ in range(batch.heads)])
        impl.W_UV = torch.zeros(batch.heads, LATENT, VALUES, dtype=dtype)
        impl.W_UV.scatter_(1, picked[:, None], 1)
        (latent, rotary), (query, query_rope) = (
            (x[..., :LATENT].contiguous(), x[..., LATENT:].contiguous())
            for x in (batch.key_cache, batch.query)
        )
        with set_forward_context(None, ascend_config):
            found = impl._forward_decode(
                query, query_rope, latent, rotary,
                batch.key_cache.shape[1], decode_metadata(batch),
            )  # fmt: skip
        exact = replace(batch, values=batch.keys).exact()[..., :LATENT]
        columns = picked[None].expand(len(exact), -1, -1)
        assert_one_rounding(found.view(len(exact), batch.heads, VALUES), exact.gather(2, columns))
    assert heads == {1, 2, 3}
