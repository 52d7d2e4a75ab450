# SPDX-License-Identifier: Apache-2.0
"""One token of each request against torch's own attention, over random caches."""

from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch

from vllm_ascend_bringup.kernels.paged_attention import paged_attention


def run(batch: Batch, nz: bool, **changed: torch.Tensor) -> torch.Tensor:
    out = torch.full_like(batch.query, float("nan"))
    tensors: dict[str, Any] = {
        "query": batch.query, "key_cache": batch.key_cache, "value_cache": batch.value_cache,
        "block_table": batch.table, "context_lens": batch.int32(batch.contexts),
    }  # fmt: skip
    paged_attention(
        **{**tensors, **changed}, num_kv_heads=batch.kv_heads, num_heads=batch.heads,
        scale_value=SCALE, out=out, nz=nz,
    )  # fmt: skip
    return out


@pytest.mark.parametrize("nz", [True, False], ids=["310p", "a2"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_random_batches(nz: bool, dtype: torch.dtype) -> None:
    for seed in range(100):
        batch = random_batch(seed, nz=nz, dtype=dtype, decode=True)
        assert_one_rounding(run(batch, nz), batch.exact())


def test_a_long_context() -> None:
    batch = random_batch(0, nz=True, dtype=torch.float16, decode=True, longest=16385)
    assert max(batch.contexts) > 16384
    assert_one_rounding(run(batch, True), batch.exact())


BATCH = random_batch(1, nz=True, dtype=torch.float16, decode=True)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"query": BATCH.query[:, :0]}, r"query .*: expected \[B, "),
        ({"context_lens": torch.tensor(BATCH.contexts)}, r"context_lens torch\.int64"),
        ({"block_table": BATCH.table[:0]}, r"block_table torch\.int32 \[0, "),
        ({"block_table": BATCH.table[:, :0]}, r"keys need \d+ blocks of \d+, the table has 0"),
        ({"block_table": BATCH.table + 10**6}, r"blocks \[.*\]: expected numbers below"),
    ],
)
def test_arguments_that_do_not_fit(changed: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(BATCH, True, **changed)
