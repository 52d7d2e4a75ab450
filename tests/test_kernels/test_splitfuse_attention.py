# SPDX-License-Identifier: Apache-2.0
"""Chunks of requests against torch's own attention, with the masks that a 310P gets."""

from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch

from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.kernels.splitfuse_attention import splitfuse_attention

CPU = torch.device("cpu")


def run(batch: Batch, nz: bool, budget: int, window: int | None = None) -> torch.Tensor:
    """As a caller does that has only ``budget`` bytes for masks: a call for each piece."""
    out = torch.full_like(batch.query, float("nan"))
    masks = LegacyMasks(batch.query.dtype, CPU, 1, budget=budget)
    for piece, rows in masks.chunks(batch.queries, batch.contexts, window=window):
        requests = slice(piece.requests.start, piece.requests.stop)
        splitfuse_attention(
            batch.query[piece.tokens], batch.key_cache, batch.value_cache, batch.table[requests],
            batch.int32(list(piece.sequence_lengths)), rows, batch.int32(list(piece.query_lengths)),
            batch.kv_heads, batch.heads, SCALE, out[piece.tokens], nz=nz,
        )  # fmt: skip
    return out


@pytest.mark.parametrize("budget", [1 << 30, 4096], ids=["one piece", "many pieces"])
@pytest.mark.parametrize("nz", [True, False], ids=["310p", "a2"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_random_batches(nz: bool, dtype: torch.dtype, budget: int) -> None:
    for seed in range(75):
        batch = random_batch(seed, nz=nz, dtype=dtype)
        window = None if seed % 3 else 1 + seed
        assert_one_rounding(run(batch, nz, budget, window), batch.exact(window))


def test_a_long_context() -> None:
    batch = random_batch(
        0, nz=True, dtype=torch.float16, requests=[(40, 16345), (1, 16384), (1, 0)]
    )
    assert batch.contexts == [16385, 16385, 1]
    assert_one_rounding(run(batch, True, 1 << 25), batch.exact())


BATCH = random_batch(3, nz=True, dtype=torch.float16)
MASK = next(rows for _, rows in LegacyMasks(torch.float16, CPU, 1, budget=1 << 30).chunks(
    BATCH.queries, BATCH.contexts))  # fmt: skip


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mask": MASK[:, :, :-16]}, r"mask torch\.float16 \[.*\]: expected torch\.float16 \[1, "),
        ({"mask": MASK[:, :-1]}, r"mask torch\.float16"),
        ({"mask": MASK.float()}, r"mask torch\.float32"),
        ({"query": BATCH.query[1:]}, r"query \[.*\]: expected \["),
        ({"seq_len": BATCH.int32([0] * len(BATCH.queries))}, r"seq_len \[0.* at least one query"),
        ({"context_lens": torch.tensor(BATCH.contexts)}, r"context_lens torch\.int64"),
    ],
)
def test_arguments_that_do_not_fit(changed: dict[str, torch.Tensor], message: str) -> None:
    tensors: dict[str, Any] = {
        "query": BATCH.query, "key_cache": BATCH.key_cache, "value_cache": BATCH.value_cache,
        "block_table": BATCH.table, "context_lens": BATCH.int32(BATCH.contexts), "mask": MASK,
        "seq_len": BATCH.int32(BATCH.queries), "out": torch.empty_like(BATCH.query),
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        splitfuse_attention(
            **{**tensors, **changed}, num_kv_heads=BATCH.kv_heads, num_heads=BATCH.heads,
            scale_value=SCALE, nz=True,
        )  # fmt: skip
