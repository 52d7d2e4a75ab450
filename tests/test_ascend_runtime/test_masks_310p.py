# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's masks of the 310P, cell by cell, where an operator reads them."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ascend_runtime import MARKS

from vllm_ascend_bringup import emulation

pytestmark = [*MARKS, pytest.mark.usefixtures("own_masks")]

CPU = torch.device("cpu")
FRACTAL_NZ, SIDE = 29, 2048


def later(rows: torch.Tensor, width: int, hidden: float) -> torch.Tensor:
    """What a query at each position must not see: ``hidden`` where key > position, else 0."""
    return torch.where(torch.arange(width) > rows[:, None], hidden, 0.0).half()


def cells(mask: torch.Tensor, rows: int, width: int) -> torch.Tensor:
    """``mask[0, column // 16, row, column % 16]``."""
    assert emulation.install("2.10.0").get_npu_format(mask) == FRACTAL_NZ
    row, column = torch.arange(rows)[:, None], torch.arange(width)
    return mask[0, column // 16, row, column % 16]


def builder(longest: int) -> Any:
    from vllm_ascend._310p.attention.attention_mask import AttentionMaskBuilder310

    return AttentionMaskBuilder310(CPU, longest)


@pytest.mark.parametrize("longest", [1, 16, 17, 400])
def test_for_prompts(longest: int) -> None:
    emulation.install("2.10.0")
    mask = builder(longest).get_attention_mask(True, SimpleNamespace(runner_type="generate"))
    side = -(-longest // 16) * 16
    assert mask.shape == (1, side // 16, side, 16)
    expected = later(torch.arange(longest), longest, float("-inf"))
    assert torch.equal(cells(mask, longest, longest), expected)


@pytest.mark.parametrize(
    ("queries", "contexts"), [([1], [1]), ([1, 4, 11], [7, 4, 16]), ([17, 1], [33, 400])]
)
def test_for_chunks(queries: list[int], contexts: list[int]) -> None:
    emulation.install("2.10.0")
    starts = torch.tensor([0, *queries]).cumsum(0)
    metadata = SimpleNamespace(query_start_loc=starts, seq_lens=torch.tensor(contexts))
    mask = builder(400).get_splitfuse_mask(metadata, CPU)
    tokens = sum(queries)
    assert mask.shape == (1, 400 // 16, -(-tokens // 16) * 16, 16)
    positions = torch.cat([torch.arange(c - q, c) for q, c in zip(queries, contexts, strict=True)])
    expected = later(positions, 400, float("-inf"))
    assert torch.equal(cells(mask, tokens, 400), expected)


def test_of_fixed_size() -> None:
    emulation.install("2.10.0.post4")
    made = builder(400)
    prompts = made.get_attention_mask(True, SimpleNamespace(runner_type="generate"))
    assert prompts.shape == (1, SIDE // 16, SIDE, 16)
    expected = later(torch.arange(SIDE), SIDE, float("-inf"))
    assert torch.equal(cells(prompts, SIDE, SIDE), expected)
    chunks = made.get_compressed_splitfuse_mask(CPU)
    assert torch.equal(chunks, later(torch.arange(SIDE), SIDE, -10000.0))
