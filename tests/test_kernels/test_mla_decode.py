# SPDX-License-Identifier: Apache-2.0
"""MLA's decode against torch's own attention over the latents."""

from typing import Any

import pytest
import torch
from attention_kit import SCALE, assert_one_rounding, random_batch
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup.kernels.mla_decode import mla_decode

VALUES = 24  # columns of a latent, of 32


def latents(seed: int, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments for a batch of one KV head."""
    batch = random_batch(seed, nz=False, dtype=dtype, decode=True, kv_heads=1, size=32)
    return {
        "query": batch.query, "key_cache": batch.key_cache, "num_kv_heads": 1,
        "num_heads": batch.heads, "scale_value": SCALE, "block_table": batch.table,
        "context_lens": batch.int32(batch.contexts), "mla_vheadsize": VALUES,
        "out": torch.full_like(batch.query[..., :VALUES], float("nan")),
    }  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_random_batches(dtype: torch.dtype) -> None:
    for seed in range(170):
        arguments = latents(seed, dtype)
        mla_decode(**arguments)
        batch = random_batch(seed, nz=False, dtype=dtype, decode=True, kv_heads=1, size=32)
        for row, key in enumerate(batch.keys):
            rows = key.double().transpose(0, 1)
            exact = scaled_dot_product_attention(
                batch.query[row, :, None].double(), rows, rows[..., :VALUES], scale=SCALE,
                enable_gqa=True,
            )  # fmt: skip
            assert_one_rounding(arguments["out"][row], exact[:, 0])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"num_kv_heads": 2}, r"expected \['blocks', 'block size', 1, 32\], one|whole groups"),
        ({"mla_vheadsize": 33}, "33 columns of values"),
        ({"mla_vheadsize": 16}, r"16 columns of values, out \[.*24\]"),
        ({"context_lens": torch.tensor([1.0])}, r"context_lens torch\.float32"),
        ({"key_cache": torch.zeros(3, 16, 2, 32)}, r"cache \[3, 16, 2, 32\]"),
    ],
)
def test_arguments_that_do_not_fit(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mla_decode(**{**latents(3, torch.float16), **changed})
