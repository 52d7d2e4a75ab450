# SPDX-License-Identifier: Apache-2.0
"""Masks of a batch: what each token sees, and what they take."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend_bringup.attention.masks import LegacyMasks, pieces
from vllm_ascend_bringup.kernels.nz_layout import from_nz
from vllm_ascend_bringup.kernels.nz_mask import mask_bytes

CPU = torch.device("cpu")
MIB = 1 << 20
REQUESTS = st.lists(
    st.tuples(st.integers(1, 70), st.integers(0, 300)), min_size=1, max_size=6
)  # query tokens, and tokens before them


def lengths(requests: list[tuple[int, int]]) -> tuple[list[int], list[int]]:
    return [query for query, _ in requests], [query + before for query, before in requests]


@settings(deadline=None)  # another process may have the cores
@given(REQUESTS, st.integers(1, 40_000))
def test_pieces_are_the_batch_in_order(requests: list[tuple[int, int]], budget: int) -> None:
    queries, sequences = lengths(requests)
    found = list(pieces(queries, sequences, budget))
    expected = [
        (request, position)
        for request, (query, length) in enumerate(zip(queries, sequences, strict=True))
        for position in range(length - query, length)
    ]
    covered: list[tuple[int, int]] = []
    for piece in found:
        assert piece.tokens.start == len(covered)
        positions = iter(piece.positions().tolist())
        for request, count in zip(piece.requests, piece.query_lengths, strict=True):
            covered += [(request, position) for position in itertools.islice(positions, count)]
        assert piece.tokens.stop == len(covered)
        rows = sum(piece.query_lengths)
        assert rows <= 16 or mask_bytes(rows, piece.width) <= budget
    assert covered == expected


@settings(deadline=None)
@given(REQUESTS)
def test_a_large_budget_makes_one_piece(requests: list[tuple[int, int]]) -> None:
    queries, sequences = lengths(requests)
    (piece,) = pieces(queries, sequences, 1 << 40)
    assert piece.query_lengths == tuple(queries)
    assert piece.sequence_lengths == tuple(sequences)


@settings(deadline=None)
@given(REQUESTS, st.integers(1, 40_000), st.one_of(st.none(), st.integers(1, 80)))
def test_rows_of_a_batch(requests: list[tuple[int, int]], budget: int, window: int | None) -> None:
    masks = LegacyMasks(torch.float16, CPU, 1, budget=budget)
    for piece, rows in masks.chunks(*lengths(requests), window=window):
        cells = from_nz(rows, sum(piece.query_lengths), piece.width)[0]
        positions = piece.positions()[:, None]
        keys = torch.arange(piece.width)[None]
        visible = (keys <= positions) & (keys > positions - (window or 10**9))
        assert torch.equal(cells == 0, visible)
        assert bool((cells[~visible] == float("-inf")).all())


def test_a_long_context_stays_within_the_budget() -> None:
    masks = LegacyMasks(torch.float16, CPU, 1000)
    for piece, rows in itertools.islice(masks.chunks([2048], [131072]), 3):
        assert sum(piece.query_lengths) == 96
        assert 23 * MIB < rows.numel() * rows.element_size() <= 24 * MIB
    # vllm-ascend's would be the square of the longest sequence.
    assert mask_bytes(131072, 131072) == 32 * 1024 * MIB


def test_the_prompt_mask_grows_by_doubling_and_is_kept() -> None:
    masks = LegacyMasks(torch.float16, CPU, 1000)
    first = masks.prompt(100)
    assert first.shape == (1, 8, 128, 16)
    assert masks.prompt(17) is first
    assert masks.prompt(128) is first
    second = masks.prompt(129)
    assert second.shape == (1, 16, 256, 16)
    assert masks.prompt(5) is second
    cells = from_nz(second, 256, 256)[0]
    assert torch.equal(cells == 0, torch.ones(256, 256, dtype=torch.bool).tril())
    # Of its own length, and its own window.
    assert LegacyMasks(torch.float16, CPU, 1000).prompt(5).shape == (1, 1, 16, 16)
    banded = from_nz(masks.prompt(20, window=3), 32, 32)[0]
    assert torch.equal(
        banded == 0,
        torch.ones(32, 32, dtype=torch.bool).tril() & ~torch.ones(32, 32).tril(-3).bool(),
    )
    assert masks.prompt(5) is second


def test_no_prompt_is_longer_than_a_batch() -> None:
    masks = LegacyMasks(torch.float16, CPU, 70)
    assert masks.prompt(33).shape[2] == 64
    assert masks.prompt(65).shape[2] == 80  # doubled it would be 128
    assert masks.prompt(70) is masks.prompt(80)
    assert masks.prompt(81).shape[2] == 128  # rows that only pad the batch


def test_nothing_is_hidden_without_causality() -> None:
    made = LegacyMasks(torch.float16, CPU, 1000).prompt(17, causal=False)
    assert made.shape == (1, 2, 32, 16)
    assert not made.any()


@pytest.mark.parametrize("pair", [(0, 5), (6, 5), (-1, 5)])
def test_lengths_that_cannot_be(pair: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=r"query and sequence length \(.*\): expected at least"):
        list(pieces([1, pair[0]], [1, pair[1]], MIB))
