# SPDX-License-Identifier: Apache-2.0
"""Capture sizes: vllm-ascend's own formula on worked examples, and what we choose by it."""

from typing import Any

import pytest

from vllm_ascend_bringup.tools.plan.capture import (
    FULL_AND_PIECEWISE,
    PIECEWISE,
    Load,
    candidates,
    few_up_to,
    full_budget,
    piecewise_budget,
    powers_up_to,
    thinned,
    usable_streams,
)

ALL = candidates()
NINE = (1, 32, 80, 136, 184, 232, 320, 416, 512)
EIGHT = (1, 40, 96, 152, 216, 288, 400, 512)
TWELVE = (1, 24, 56, 96, 128, 168, 200, 240, 288, 368, 432, 512)
QWEN_32B, QWEN_30B, QWEN_235B = 64, 48, 94


def moe(layers: int, **more: Any) -> Load:
    return Load(layers, moe=True, expert_parallel=True, **more)


def aiv(layers: int, **more: Any) -> Load:
    return Load(layers, aiv=True, **more)


# What vllm-ascend's function computes: load, mode, streams, pieces, divisor, kept, sizes.
EXAMPLES = [
    (Load(36), PIECEWISE, 1800, 37, 1, 48, None),
    (aiv(36), PIECEWISE, 1763, 37, 1, 47, None),
    (Load(QWEN_32B), PIECEWISE, 1800, 65, 1, 27, None),
    (Load(QWEN_32B, tp=4), PIECEWISE, 1760, 65, 3, 9, NINE),
    (aiv(QWEN_32B, tp=4), PIECEWISE, 1670, 65, 2, 12, TWELVE),
    (Load(QWEN_32B, tp=4), FULL_AND_PIECEWISE, 1709, 65, 3, 8, EIGHT),
    (Load(QWEN_32B, tp=8, decode_cp=2), PIECEWISE, 1660, 65, 3, 8, EIGHT),
    (Load(QWEN_32B, tp=8, decode_cp=2, prefill_cp=2), PIECEWISE, 1560, 65, 3, 8, EIGHT),
    (moe(QWEN_30B, tp=4), PIECEWISE, 1760, 49, 3, 11,
     (1, 24, 64, 104, 144, 184, 224, 272, 352, 432, 512)),
    (moe(QWEN_30B, tp=4, aiv=True), PIECEWISE, 1800, 49, 3, 12, TWELVE),
    (moe(QWEN_235B, tp=8, dp=2), PIECEWISE, 1720, 95, 5, 3, (1, 184, 512)),
    (moe(QWEN_235B, tp=8, dp=2, aiv=True), PIECEWISE, 1800, 95, 5, 3, (1, 184, 512)),
    (moe(61, draft_layers=1, tp=16), PIECEWISE, 1760, 64, 3, 9, NINE),
    (moe(61, draft_layers=1, tp=16, aiv=True), PIECEWISE, 1800, 64, 3, 9, NINE),
]  # fmt: skip


@pytest.mark.parametrize(("load", "mode", "streams", "graph", "divisor", "kept", "sizes"), EXAMPLES)
def test_worked_examples(
    load: Load, mode: str, streams: int, graph: int, divisor: int, kept: int,
    sizes: tuple[int, ...] | None,
) -> None:  # fmt: skip
    budget = piecewise_budget(load, mode, len(ALL))
    found = (budget.streams, budget.graph, budget.divisor, budget.kept)
    assert found == (streams, graph, divisor, kept)
    chosen = thinned(ALL, budget.kept)
    assert len(chosen) == kept
    if sizes is not None:
        assert chosen == sizes


@pytest.mark.parametrize(
    ("kept", "start", "end"),
    [(48, (1, 2, 4, 8), (496, 512)), (47, (1, 2, 4, 8), (496, 512)),
     (27, (1, 4, 16, 32), (480, 512))],
)  # fmt: skip
def test_ends_of_the_long_lists(kept: int, start: tuple[int, ...], end: tuple[int, ...]) -> None:
    chosen = thinned(ALL, kept)
    assert chosen[: len(start)] == start
    assert chosen[-len(end) :] == end


def test_candidates_are_vllms() -> None:
    assert len(ALL) == 51
    assert ALL[:4] == (1, 2, 4, 8)
    assert ALL[33:36] == (248, 256, 272)
    assert candidates(1) == (1,)
    assert candidates(24) == (1, 2, 4, 8, 16, 24)
    assert candidates(25) == candidates(24)


def test_little_is_kept_of_little() -> None:
    assert thinned((1, 2, 4), 5) == thinned((1, 2, 4), 3) == (1, 2, 4)
    assert thinned((1, 2, 4), 2) == (1, 4)
    assert thinned((1, 2, 4), 1) == thinned((1, 2, 4), 0) == (4,)
    assert piecewise_budget(Load(64, tp=4), PIECEWISE, 51, quota=32).kept == 0


def test_overlapped_shared_experts_and_data_parallel_cost_a_share_each() -> None:
    plain = piecewise_budget(moe(48, tp=4, aiv=True), PIECEWISE, 51)
    overlap = piecewise_budget(moe(48, tp=4, aiv=True, overlap_shared_expert=True), PIECEWISE, 51)
    assert overlap.divisor == plain.divisor + 1
    dense = piecewise_budget(aiv(48, tp=4, dp=2), PIECEWISE, 51)
    assert (dense.divisor, dense.streams) == (3, 1800 - 3 * 49)


def test_a_virtual_device_has_a_share_of_the_streams_and_of_the_reserve() -> None:
    assert usable_streams() == 1800
    assert usable_streams(512) == 450
    assert usable_streams(1) == 0
    budget = full_budget(Load(64, tp=4), 512)
    assert (budget.streams, budget.divisor, budget.kept) == (410, 3, 136)
    assert full_budget(Load(64), 64).kept == 56
    assert full_budget(Load(64, tp=4), 32).kept == 0


@pytest.mark.parametrize(
    ("concurrency", "sizes"),
    [(1, (1,)), (2, (1, 2)), (16, (1, 2, 4, 8, 16)), (32, (1, 2, 4, 8, 16, 32)),
     (20, (1, 2, 4, 8, 16, 20)), (3, (1, 2, 3))],
)  # fmt: skip
def test_powers(concurrency: int, sizes: tuple[int, ...]) -> None:
    assert powers_up_to(concurrency) == sizes


@pytest.mark.parametrize(
    ("concurrency", "sizes"), [(32, (16, 32)), (1, (1,)), (2, (1, 2)), (5, (3, 5)), (33, (17, 33))]
)
def test_two_graphs(concurrency: int, sizes: tuple[int, ...]) -> None:
    assert few_up_to(concurrency, 2) == sizes
