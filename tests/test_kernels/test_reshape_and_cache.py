# SPDX-License-Identifier: Apache-2.0
"""The paged cache of each generation, cell by cell."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vllm_ascend_bringup.kernels.reshape_and_cache import reshape_and_cache

BLOCKS, HEADS = 5, 2
UNTOUCHED = -7.0


def caches(
    nz: bool, block_size: int, size: int, value_size: int
) -> tuple[torch.Tensor, torch.Tensor]:
    made = []
    for width in (size, value_size):
        shape = (BLOCKS, block_size, HEADS, width)
        if nz:
            shape = (BLOCKS, HEADS * width // 16, block_size, 16)
        made.append(torch.full(shape, UNTOUCHED, dtype=torch.float16))
    return made[0], made[1]


def cell(cache: torch.Tensor, nz: bool, slot: int, head: int, d: int, size: int) -> float:
    block_size = cache.shape[2 if nz else 1]
    block, offset = divmod(slot, block_size)
    if not nz:
        return float(cache[block, offset, head, d])
    column = head * size + d
    flat = ((block * (HEADS * size // 16) + column // 16) * block_size + offset) * 16 + column % 16
    return float(cache.flatten()[flat])


@settings(max_examples=500, deadline=None)
@given(st.data(), st.booleans(), st.sampled_from([16, 64, 128]), st.sampled_from([8, 16, 72]))
def test_every_cell(data: st.DataObject, nz: bool, block_size: int, size: int) -> None:
    value_size = data.draw(st.sampled_from([8, 24]))
    slots = data.draw(
        st.lists(st.integers(0, BLOCKS * block_size - 1), unique=True, min_size=0, max_size=9)
    )
    skipped = data.draw(st.lists(st.sampled_from(range(len(slots))), unique=True)) if slots else []
    given_slots = [-1 if i in skipped else slot for i, slot in enumerate(slots)]
    key = torch.randn(len(slots), HEADS, size, dtype=torch.float16)
    value = torch.randn(len(slots), HEADS, value_size, dtype=torch.float16)
    key_cache, value_cache = caches(nz, block_size, size, value_size)
    reshape_and_cache(
        key, value, key_cache, value_cache, torch.tensor(given_slots, dtype=torch.int32), nz=nz
    )
    for rows, cache in ((key, key_cache), (value, value_cache)):
        width = rows.shape[2]
        for token, slot in enumerate(slots):
            written = [
                cell(cache, nz, slot, head, d, width) for head in range(HEADS) for d in range(width)
            ]
            kept = [UNTOUCHED] * len(written)
            assert written == (kept if token in skipped else rows[token].flatten().tolist())
        left = cache.numel() - (len(slots) - len(skipped)) * HEADS * width
        assert int((cache == UNTOUCHED).sum()) == left


def test_an_element_of_the_310p() -> None:
    """Two heads of 128, blocks of 128: slot 300, head 1, column 37 lies at 86,725."""
    key = torch.zeros(1, 2, 128, dtype=torch.float16)
    key[0, 1, 37] = 1
    cache = torch.zeros(5, 16, 128, 16, dtype=torch.float16)
    slots = torch.tensor([300], dtype=torch.int32)
    reshape_and_cache(key, key, cache, cache.clone(), slots, nz=True)
    assert cache.nonzero().tolist() == [[2, 10, 44, 5]]
    assert cache.flatten().nonzero().item() == 86725


@pytest.mark.parametrize("nz", [True, False], ids=["nz", "nd"])
def test_a_cache_that_is_a_view(nz: bool) -> None:
    """vLLM keeps keys and values of a layer in one tensor."""
    key_cache, _ = caches(nz, 16, 16, 16)
    both = torch.stack([key_cache, key_cache], dim=1)
    key = torch.randn(2, HEADS, 16, dtype=torch.float16)
    slots = torch.tensor([3, 70], dtype=torch.int32)
    reshape_and_cache(key, -key, both[:, 0], both[:, 1], slots, nz=nz)
    for token, slot in enumerate(slots.tolist()):
        assert cell(both[:, 0], nz, slot, 1, 5, 16) == float(key[token, 1, 5])
        assert cell(both[:, 1], nz, slot, 1, 5, 16) == -float(key[token, 1, 5])


KEY = torch.zeros(3, HEADS, 16, dtype=torch.float16)
SLOTS = torch.arange(3, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"slot_indices": SLOTS.long()}, r"slot_indices torch\.int64 \[3\]: expected torch\.int32"),
        ({"slot_indices": SLOTS[:2]}, r"slot_indices torch\.int32 \[2\]: expected"),
        ({"value": KEY[:2]}, r"value \[2, 2, 16\]: expected tokens and heads"),
        ({"key": KEY.float()}, r"key torch\.float32 \[3, 2, 16\], its cache torch\.float16"),
        ({"key_cache": torch.zeros(5, 2, 16, 32).half()}, r"\[5, 2, 16, 32\]: expected a cache"),
        ({"value_cache": torch.zeros(5, 2, 24, 16).half()}, r"\[5, 2, 24, 16\]: expected a cache"),
        ({"slot_indices": SLOTS + 80}, r"slot 82: expected less than 5 blocks of 16"),
    ],
)
def test_arguments_that_do_not_fit(change: dict[str, torch.Tensor], message: str) -> None:
    key_cache, value_cache = caches(True, 16, 16, 16)
    arguments: dict[str, Any] = {
        "key": KEY, "value": KEY, "key_cache": key_cache, "value_cache": value_cache,
        "slot_indices": SLOTS,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        reshape_and_cache(**{**arguments, **change}, nz=True)
    assert bool((key_cache == UNTOUCHED).all())
