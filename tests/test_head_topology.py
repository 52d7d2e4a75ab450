# SPDX-License-Identifier: Apache-2.0
"""HeadTopology for every combination of heads and ranks that occurs."""

from itertools import pairwise

import pytest
import torch

from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.head_topology import clean_sizes, head_topology, misfit

SIZES = (1, 2, 3, 4, 6, 8, 16, 32)
D = 2


def divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]


@pytest.mark.parametrize("tp", SIZES)
@pytest.mark.parametrize("pad", [False, True], ids=["plain", "padded"])
def test_ranks_make_up_the_whole_for_all_heads(tp: int, pad: bool) -> None:
    divided = 0
    for query in range(1, 129):
        weight = torch.arange(query * D)
        for kv in divisors(query):
            if misfit(query, kv, tp, pad=pad):
                with pytest.raises(SettingsError, match=r"a tensor-parallel size of 1\b"):
                    head_topology(query, kv, D, tp, 0, pad=pad)
                continue
            divided += 1
            ranks = [head_topology(query, kv, D, tp, rank, pad=pad) for rank in range(tp)]
            # Query rows: each once, in order; padding only behind the last.
            assert torch.equal(torch.cat([weight[r.query_rows] for r in ranks]), weight)
            assert [h for r in ranks for h in r.query_heads_here] == list(
                range(query + ranks[0].padding)
            )
            assert len({len(r.query_heads_here) for r in ranks}) == 1
            # KV rows: each as often as there are replicas, ranks next to each other sharing.
            copies = ranks[0].kv_replicas
            kv_weight = torch.arange(kv * D)
            distinct = [kv_weight[r.kv_rows] for r in ranks[::copies]]
            assert torch.equal(torch.cat(distinct), kv_weight)
            for first, second in pairwise(ranks):
                if second.kv_rows.start < second.kv_rows.stop:  # not padding alone
                    shared = first.rank // copies == second.rank // copies
                    assert (first.kv_rows == second.kv_rows) is shared
            # A rank has the KV heads that its query heads attend to, and no other.
            for r in ranks:
                needed = {h // (query // kv) for h in r.query_heads_here}
                assert needed == set(r.kv_heads_here)
    assert divided == sum(
        (query % tp == 0 and (kv % tp == 0 or tp % kv == 0)) or (pad and kv == query)
        for query in range(1, 129)
        for kv in divisors(query)
    )


@pytest.mark.parametrize(
    ("query", "kv", "tp", "message"),
    [
        (12, 4, 8, r"12 query heads do not divide by 8.*size of 1, 2, 4, 12"),
        (24, 6, 4, r"6 KV heads neither divide by 4 nor into it.*size of 1, 2, 3, 6, 12, 24"),
        (71, 1, 2, r"71 query heads do not divide by 2.*size of 1, 71"),
    ],
)
def test_what_cannot_be_divided_names_the_sizes_that_can(
    query: int, kv: int, tp: int, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        head_topology(query, kv, 64, tp, 0)


def test_a_vision_tower_is_padded_and_grouped_heads_are_not() -> None:
    ranks = [head_topology(25, 25, 64, 8, rank, pad=True) for rank in range(8)]
    assert [r.padding for r in ranks] == [7] * 8
    assert ranks[6].query_rows == slice(24 * 64, 25 * 64)
    assert ranks[7].query_rows == slice(25 * 64, 25 * 64)
    assert list(ranks[6].query_heads_here) == [24, 25, 26, 27]
    with pytest.raises(SettingsError, match="cannot be padded"):
        head_topology(25, 5, 64, 8, 0, pad=True)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0, 1, 64, 1, 0), "positive"), ((8, 3, 64, 1, 0), "multiple"), ((8, 8, 64, 2, 2), "rank 2"),
     ((8, 8, 64, 2, -1), "rank -1")],
)  # fmt: skip
def test_nonsense_is_refused(numbers: tuple[int, int, int, int, int], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        head_topology(*numbers)


def test_clean_sizes() -> None:
    assert clean_sizes(64, 8) == [1, 2, 4, 8, 16, 32, 64]
    assert clean_sizes(12, 12, pad=True) == list(range(1, 129))
