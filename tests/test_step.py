# SPDX-License-Identifier: Apache-2.0
"""What a step's layers share, and what they must not keep."""

import pytest
import torch

from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.attention.step import Step

CPU = torch.device("cpu")


def step(queries: list[int], lengths: list[int], budget: int = 1 << 20) -> Step:
    return Step(queries, lengths, True, LegacyMasks(torch.float16, CPU, 64, budget=budget))


def test_layers_share_the_mask_of_a_batch() -> None:
    batch = step([3, 1], [10, 7])
    (first,), (second,) = batch.calls(None), batch.calls(None)
    assert first is second
    assert (first.tokens, first.requests) == (slice(0, 4), slice(0, 2))
    assert (first.seq_len.tolist(), first.context_lens.tolist()) == ([3, 1], [10, 7])
    # A window that nothing exceeds is none; another one has a mask of its own.
    assert next(batch.calls(10)) is first
    assert not torch.equal(next(batch.calls(5)).mask, first.mask)


def test_what_exceeds_the_budget_is_not_kept() -> None:
    batch = step([40, 40], [400, 300], budget=4 * 16 * 400 * 2)
    calls = list(batch.calls(None))
    assert len(calls) > 1
    assert [call.tokens.stop for call in calls][-1] == 80
    assert next(batch.calls(None)).mask is not calls[0].mask


@pytest.mark.parametrize(
    ("queries", "lengths", "fresh", "decodes"),
    [
        ([3, 1], [3, 1], True, False),
        ([1, 1], [1, 1], True, True),
        ([1, 1], [9, 4], False, True),
        ([1, 2], [9, 4], False, False),
    ],
)
def test_states(queries: list[int], lengths: list[int], fresh: bool, decodes: bool) -> None:
    batch = step(queries, lengths)
    assert (batch.fresh, batch.decodes(None), batch.tokens) == (fresh, decodes, sum(queries))
    assert batch.decodes(max(lengths)) is decodes
    assert batch.decodes(max(lengths) - 1) is False
