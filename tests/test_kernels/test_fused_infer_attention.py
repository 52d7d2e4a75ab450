# SPDX-License-Identifier: Apache-2.0
"""Packed tokens of A2 and A3 against torch's own attention, over caches and over fresh keys."""

from itertools import accumulate
from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup.kernels.fused_infer_attention import fused_infer_attention

MASK = torch.ones(2048, 2048, dtype=torch.int8).triu(1)


def run(batch: Batch, **changed: Any) -> torch.Tensor:
    arguments: dict[str, Any] = {
        "key": batch.key_cache.flatten(2), "value": batch.value_cache.flatten(2),
        "block_table": batch.table, "block_size": batch.key_cache.shape[1],
        "actual_seq_lengths": list(accumulate(batch.queries)),
        "actual_seq_lengths_kv": batch.contexts, "num_heads": batch.heads,
        "num_key_value_heads": batch.kv_heads, "scale": SCALE, "sparse_mode": 3,
        "atten_mask": MASK, "query": batch.query,
    }  # fmt: skip
    return fused_infer_attention(**{**arguments, **changed})


def fresh(batch: Batch) -> dict[str, Any]:
    """The same keys and values, packed, without a cache."""
    return {
        "key": torch.cat(batch.keys), "value": torch.cat(batch.values), "block_table": None,
        "block_size": 0, "actual_seq_lengths_kv": list(accumulate(batch.contexts)),
    }  # fmt: skip


def by_heads(cache: torch.Tensor) -> torch.Tensor:
    """``[blocks, block_size, KV, d]`` as ``[blocks, KV, block_size, d]``."""
    return cache.transpose(1, 2).contiguous()


@pytest.mark.parametrize("decode", [False, True], ids=["chunks", "decode"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_causal(dtype: torch.dtype, decode: bool) -> None:
    for seed in range(100):
        batch = random_batch(seed, nz=False, dtype=dtype, decode=decode)
        exact = batch.exact()
        assert_one_rounding(run(batch), exact)
        assert_one_rounding(run(batch, **fresh(batch)), exact)
        caches = {"key": by_heads(batch.key_cache), "value": by_heads(batch.value_cache)}
        assert_one_rounding(run(batch, **caches), exact)


def test_a_long_context() -> None:
    batch = random_batch(
        0, nz=False, dtype=torch.bfloat16, requests=[(40, 16345), (1, 16384), (1, 0)]
    )
    assert batch.contexts == [16385, 16385, 1]
    assert_one_rounding(run(batch), batch.exact())


@pytest.mark.parametrize("decode", [False, True], ids=["chunks", "decode"])
def test_a_band_sees_one_key_more_than_pre_tokens(decode: bool) -> None:
    for seed in range(100):
        batch = random_batch(seed, nz=False, dtype=torch.bfloat16, decode=decode)
        band = {"sparse_mode": 4, "pre_tokens": seed, "next_tokens": 0}
        assert_one_rounding(run(batch, **band), batch.exact(window=seed + 1))
        assert_one_rounding(run(batch, **band, **fresh(batch)), batch.exact(window=seed + 1))


def test_mode_0_sees_every_key() -> None:
    batch = random_batch(7, nz=False, dtype=torch.bfloat16)
    found = run(batch, sparse_mode=0, atten_mask=None)
    first = 0
    for count, key, value in zip(batch.queries, batch.keys, batch.values, strict=True):
        rows = batch.query[first : first + count].double().transpose(0, 1)
        exact = scaled_dot_product_attention(
            rows, key.double().transpose(0, 1), value.double().transpose(0, 1), scale=SCALE,
            enable_gqa=True,
        )  # fmt: skip
        assert_one_rounding(found[first : first + count], exact.transpose(0, 1))
        first += count


@pytest.mark.parametrize("decode", [False, True], ids=["chunks", "decode"])
def test_rotary_parts_are_more_columns(decode: bool) -> None:
    for seed in range(50):
        batch = random_batch(seed, nz=False, dtype=torch.bfloat16, decode=decode)
        size = batch.query.shape[2] // 4
        key = batch.key_cache
        values = batch.value_cache[..., :-size].flatten(2)
        found = run(
            batch, query=batch.query[..., :-size], query_rope=batch.query[..., -size:],
            key=key[..., :-size].flatten(2), key_rope=key[..., -size:].flatten(2), value=values,
        )  # fmt: skip
        assert_one_rounding(found, batch.exact()[..., :-size])


BATCH = random_batch(3, nz=False, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"atten_mask": None}, r"mask none with sparse_mode 3: expected \[2048, 2048\]"),
        ({"atten_mask": MASK.half()}, r"mask torch\.float16 \[2048, 2048\]"),
        ({"atten_mask": MASK[1:]}, r"mask torch\.int8 \[2047, 2048\]"),
        ({"sparse_mode": 0}, "sparse_mode 0 with a mask: expected none"),
        ({"sparse_mode": 2}, "sparse_mode 2: expected 0, 3 or 4"),
        ({"query": BATCH.query[1:]}, r"\d+ queries, of each request"),
        ({"query": BATCH.query[:, 1:]}, r"query \[.*\]: expected \[T, "),
        ({"actual_seq_lengths": [5, 3]}, r"actual_seq_lengths \[5, 3\]: expected running totals"),
        ({"actual_seq_lengths_kv": BATCH.contexts[1:]}, r"expected as many requests in both"),
        ({"block_size": 32}, r"cache \[.*\]: expected \['blocks', 32, "),
        ({"query_rope": BATCH.query}, "expected both or neither"),
        ({**fresh(BATCH), "key": torch.cat(BATCH.keys)[1:]}, r"key \[.*: expected \[\d+, \d, size"),
        ({**fresh(BATCH), "value": torch.cat(BATCH.values)[1:]}, r"value \[.*: expected \[\d+, "),
        ({**fresh(BATCH), "num_key_value_heads": 1}, r"key \[.*: expected \[\d+, 1, size\]"),
    ],
)
def test_arguments_that_do_not_fit(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(BATCH, **changed)
