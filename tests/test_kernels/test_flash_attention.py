# SPDX-License-Identifier: Apache-2.0
"""Fresh prompts against torch's own attention, with the masks that a 310P gets."""

from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.kernels.flash_attention import flash_attention

MASKS = LegacyMasks(torch.float16, torch.device("cpu"), 1 << 15)


def run(batch: Batch, mask: torch.Tensor, **changed: torch.Tensor) -> torch.Tensor:
    out = torch.full_like(batch.query, float("nan"))
    tensors: dict[str, Any] = {
        "query": batch.query, "key": torch.cat(batch.keys), "value": torch.cat(batch.values),
        "mask": mask, "seq_len": batch.int32(batch.queries),
    }  # fmt: skip
    flash_attention(
        **{**tensors, **changed}, scale_value=SCALE, num_heads=batch.heads,
        num_kv_heads=batch.kv_heads, out=out,
    )  # fmt: skip
    return out


def test_random_batches() -> None:
    for seed in range(500):
        batch = random_batch(seed, nz=True, dtype=torch.float16, fresh=True)
        window = None if seed % 3 else 1 + seed % 40
        mask = MASKS.prompt(max(batch.queries), window=window)
        assert_one_rounding(run(batch, mask), batch.exact(window))


def test_a_long_prompt() -> None:
    longest = 16385
    masks = LegacyMasks(torch.float16, torch.device("cpu"), longest)
    batch = random_batch(
        0,
        nz=True,
        dtype=torch.float16,
        kv_heads=1,
        size=16,
        requests=[(1, 0), (longest, 0), (1, 0)],
    )
    found = run(batch, masks.prompt(longest))
    for row in (0, 1, 1025, 8192, longest - 1):
        seen = slice(row + 1)
        exact = scaled_dot_product_attention(
            batch.query[1 + row, :, None].double(), batch.keys[1][seen].double().transpose(0, 1),
            batch.values[1][seen].double().transpose(0, 1), scale=SCALE, enable_gqa=True,
        )  # fmt: skip
        assert_one_rounding(found[1 + row], exact[:, 0])


def test_without_causality_every_key_is_seen() -> None:
    batch = random_batch(5, nz=True, dtype=torch.float16, fresh=True)
    found = run(batch, MASKS.prompt(max(batch.queries), causal=False))
    # The last token of each request sees all its keys in both; another one does not.
    last = torch.tensor(batch.queries).cumsum(0) - 1
    assert_one_rounding(found[last], batch.exact()[last])
    assert not torch.allclose(found[last - 1].double(), batch.exact()[last - 1], atol=1e-2)


def test_rows_past_the_lengths_are_left() -> None:
    batch = random_batch(5, nz=True, dtype=torch.float16, fresh=True)
    fewer = batch.int32([*batch.queries[:-1], batch.queries[-1] - 1])
    found = run(batch, MASKS.prompt(max(batch.queries)), seq_len=fewer)
    assert bool(found[-1].isnan().all())
    assert_one_rounding(found[:-1], batch.exact()[:-1])


BATCH = random_batch(2, nz=True, dtype=torch.float16, fresh=True)
MASK = MASKS.prompt(max(BATCH.queries))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"seq_len": torch.tensor(BATCH.queries)}, r"seq_len torch\.int64 on cpu: expected int32"),
        ({"seq_len": BATCH.int32([0])}, r"lengths \[0\].* expected at least one token each"),
        ({"seq_len": BATCH.int32([10**6])}, r"lengths \[1000000\] of \d+ tokens"),
        ({"key": torch.cat(BATCH.keys)[1:]}, r"key \[.*\]: expected \["),
        ({"mask": MASK[:, :1, :16]}, r"mask torch\.float16 \[1, 1, 16, 16\]: expected"),
        ({"mask": MASK.bfloat16()}, r"mask torch\.bfloat16"),
    ],
)
def test_arguments_that_do_not_fit(changed: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        run(BATCH, **{"mask": MASK, **changed})
