# SPDX-License-Identifier: Apache-2.0
"""Attention operators of the emulation against torch's own attention in float64."""

from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch, assert_one_rounding, random_batch
from emulation_kit import Install, nz, paged_arguments, prompt_arguments
from torch.nn.functional import scaled_dot_product_attention

SIDE = 2048
SEEDS = range(30)


def causal(side: int, hidden: float = float("-inf")) -> torch.Tensor:
    """``[1, side / 16, side, 16]``: 0 for key <= query, else hidden."""
    matrix = torch.zeros(side, side, dtype=torch.float16)
    matrix.masked_fill_(torch.ones(side, side, dtype=torch.bool).triu(1), hidden)
    return matrix.view(1, side, side // 16, 16).transpose(1, 2).contiguous()


def fresh(seed: int, **options: Any) -> Batch:
    return random_batch(seed, nz=True, dtype=torch.float16, fresh=True, **options)


def one_prompt(length: int, size: int) -> Batch:
    """One request, one head."""
    generator = torch.Generator().manual_seed(length + size)
    query, key, value = (torch.randn(length, 1, size, generator=generator).half() for _ in range(3))
    nothing = torch.empty(0)
    return Batch([length], [length], query, [key], [value], nothing, nothing, nothing)


def seen(batch: Batch, visible: torch.Tensor) -> torch.Tensor:
    """Attention of the only request, where ``visible`` ``[n, n]``."""
    found = scaled_dot_product_attention(
        batch.query.double().transpose(0, 1), batch.keys[0].double().transpose(0, 1),
        batch.values[0].double().transpose(0, 1), attn_mask=visible, scale=SCALE,
    )  # fmt: skip
    return found.transpose(0, 1)


def test_flash_attention(torch_npu: Any) -> None:
    mask = nz(causal(80))
    for seed in SEEDS:
        batch = fresh(seed)
        arguments = prompt_arguments(batch)
        assert torch_npu._npu_flash_attention(**arguments, mask=mask) is None
        assert_one_rounding(arguments["out"], batch.exact())


def test_flash_attention_adds_the_mask_it_is_given(torch_npu: Any) -> None:
    batch = one_prompt(20, 16)
    visible = torch.rand(20, 20) < 0.5
    visible.fill_diagonal_(True)
    matrix = torch.zeros(32, 32, dtype=torch.float16)
    matrix[:20, :20].masked_fill_(~visible, float("-inf"))
    mask = nz(matrix.view(1, 32, 2, 16).transpose(1, 2).contiguous())
    arguments = prompt_arguments(batch)
    torch_npu._npu_flash_attention(**arguments, mask=mask)
    assert_one_rounding(arguments["out"], seen(batch, visible))


@pytest.mark.parametrize("options", [None, {}, {"kernel_type": 0}, {"kernel_type": 2}])
def test_unpadded_attention_sees_everything(torch_npu: Any, options: dict[str, int] | None) -> None:
    for length in (1, 16, 33):
        batch = one_prompt(length, 48)
        arguments = prompt_arguments(batch)
        if options is None:
            torch_npu._npu_flash_attention_unpad(**arguments)
        else:
            torch_npu._npu_flash_attention_unpad_v2(**arguments, **options)
        assert_one_rounding(
            arguments["out"], seen(batch, torch.ones(length, length, dtype=torch.bool))
        )


@pytest.mark.parametrize("hidden", [float("-inf"), -10000.0])
def test_flash_attention_v3(torch_npu: Any, hidden: float) -> None:
    mask = nz(causal(SIDE, hidden))
    for seed in SEEDS[:10]:
        batch = fresh(seed, longest=300)
        arguments = prompt_arguments(batch)
        torch_npu._npu_flash_attention_v3(**arguments, mask=mask)
        assert_one_rounding(arguments["out"], batch.exact())


@pytest.mark.parametrize(("size", "tile"), [(16, 128), (128, 128), (192, 80), (256, 64)])
def test_flash_attention_v3_reads_one_tile(torch_npu: Any, size: int, tile: int) -> None:
    # ATB's UnpadFlashAttentionNz: keys of later tiles are skipped whatever the mask says.
    zeros = nz(torch.zeros(1, SIDE // 16, SIDE, 16, dtype=torch.float16))
    for length in (1, tile, tile + 1, 2 * tile + 17):
        batch = one_prompt(length, size)
        arguments = prompt_arguments(batch)
        torch_npu._npu_flash_attention_v3(**arguments, mask=zeros)
        tiles = torch.arange(length) // tile
        assert_one_rounding(arguments["out"], seen(batch, tiles <= tiles[:, None]))


@pytest.mark.parametrize("chip", ["310p", "a2"])
def test_paged_attention(install: Install, chip: str) -> None:
    torch_npu = install(chip=chip)
    on_310p = chip == "310p"
    dtype = torch.float16 if on_310p else torch.bfloat16
    for seed in SEEDS:
        batch = random_batch(seed, nz=on_310p, dtype=dtype, decode=True)
        arguments = paged_arguments(batch, nz if on_310p else torch.clone)
        torch_npu._npu_paged_attention(**arguments)
        assert_one_rounding(arguments["out"], batch.exact())


def mask_rows(batch: Batch) -> torch.Tensor:
    """A row for each token of the batch: of a causal mask the rows of their positions."""
    whole = causal(-(-max(batch.contexts) // 16) * 16)
    positions = torch.cat(
        [
            torch.arange(length - count, length)
            for count, length in zip(batch.queries, batch.contexts, strict=True)
        ]
    )
    rows = whole[:, :, positions]
    return torch.nn.functional.pad(rows, (0, 0, 0, -len(positions) % 16))


def test_splitfuse_attention(torch_npu: Any) -> None:
    for seed in SEEDS:
        batch = random_batch(seed, nz=True, dtype=torch.float16)
        arguments = paged_arguments(batch)
        torch_npu._npu_paged_attention_splitfuse(
            **arguments, mask=nz(mask_rows(batch)), seq_len=batch.int32(batch.queries)
        )
        assert_one_rounding(arguments["out"], batch.exact())


# The second has more keys than the mask has columns.
@pytest.mark.parametrize(("seeds", "longest"), [(SEEDS[:15], 70), (range(2), 900)])
def test_splitfuse_attention_v2(torch_npu: Any, seeds: range, longest: int) -> None:
    mask = torch.ones(SIDE, SIDE, dtype=torch.float16).triu(1) * -10000
    contexts = []
    for seed in seeds:
        batch = random_batch(seed, nz=True, dtype=torch.float16, longest=longest)
        contexts += batch.contexts
        arguments = paged_arguments(batch)
        torch_npu._npu_paged_attention_splitfuse_v2(
            **arguments, mask=mask, seq_len=batch.int32(batch.queries)
        )
        assert_one_rounding(arguments["out"], batch.exact())
    assert (max(contexts) > SIDE) == (longest > 70)
