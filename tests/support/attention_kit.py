# SPDX-License-Identifier: Apache-2.0
"""Random batches in a paged cache, and torch's own attention over them in float64."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup.kernels.reshape_and_cache import reshape_and_cache

SCALE = 0.3


@dataclass(frozen=True)
class Batch:
    """Requests of ``queries`` tokens after others, all of whose ``contexts`` keys are cached.

    keys, values: per request ``[context, kv_heads, d]``. The table has holes: blocks lie in any
    order, with unused ones between, which hold NaN.
    """

    queries: list[int]
    contexts: list[int]
    query: torch.Tensor
    keys: list[torch.Tensor]
    values: list[torch.Tensor]
    key_cache: torch.Tensor
    value_cache: torch.Tensor
    table: torch.Tensor

    @property
    def heads(self) -> int:
        return self.query.shape[1]

    @property
    def kv_heads(self) -> int:
        return self.keys[0].shape[1]

    def int32(self, lengths: list[int]) -> torch.Tensor:
        return torch.tensor(lengths, dtype=torch.int32)

    def exact(self, window: int | None = None, tile: int = 1) -> torch.Tensor:
        """``[T, heads, d]`` float64: each query sees the keys up to its own position, or the tile
        of positions it is in.
        """
        rows = []
        first = 0
        for count, length, key, value in zip(
            self.queries, self.contexts, self.keys, self.values, strict=True
        ):
            positions = torch.arange(length - count, length)[:, None]
            columns = torch.arange(length)[None]
            seen = columns // tile <= positions // tile
            if window is not None:
                seen &= columns > positions - window
            found = scaled_dot_product_attention(
                self.query[first : first + count].double().transpose(0, 1),
                key.double().transpose(0, 1), value.double().transpose(0, 1), attn_mask=seen,
                scale=SCALE, enable_gqa=True,
            )  # fmt: skip
            rows.append(found.transpose(0, 1))
            first += count
        return torch.cat(rows)


def random_batch(
    seed: int, *, nz: bool, dtype: torch.dtype, decode: bool = False, fresh: bool = False,
    longest: int = 70, kv_heads: int | None = None, size: int | None = None,
    each: int | None = None, requests: Sequence[tuple[int, int]] | None = None,
) -> Batch:  # fmt: skip
    """decode: one query token each, or ``each`` of them. fresh: no tokens before them. requests:
    these, query tokens and tokens before them, in place of random ones.
    """
    chance = random.Random(seed)
    generator = torch.Generator().manual_seed(seed)
    block_size = chance.choice([16, 64, 128])
    drawn_heads, drawn_size = chance.choice([1, 2, 4]), chance.choice([16, 48, 64])
    kv_heads, size = kv_heads or drawn_heads, size or drawn_size
    heads = kv_heads * chance.choice([1, 2, 3])
    drawn = []
    for _ in range(chance.randint(1, 5)):
        count = each or (1 if decode else chance.randint(1, longest))
        # Some end exactly with a block.
        before = 0 if fresh else chance.choice([0, 1, chance.randint(0, 3 * longest)])
        if not fresh and chance.random() < 0.3:
            before += -(before + count) % block_size
        drawn.append((count, before))
    queries = [count for count, _ in requests or drawn]
    contexts = [count + before for count, before in requests or drawn]

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).to(dtype)

    needed = [-(-length // block_size) for length in contexts]
    blocks = list(range(sum(needed) + 3))
    chance.shuffle(blocks)
    table = torch.full((len(queries), max(needed) + 1), 10**6, dtype=torch.int32)
    shape = (len(blocks), block_size, kv_heads, size)
    if nz:
        shape = (len(blocks), kv_heads * size // 16, block_size, 16)
    key_cache, value_cache = (torch.full(shape, float("nan"), dtype=dtype) for _ in range(2))
    keys, values = [], []
    for request, length in enumerate(contexts):
        used = [blocks.pop() for _ in range(needed[request])]
        table[request, : len(used)] = torch.tensor(used, dtype=torch.int32)
        keys.append(draw(length, kv_heads, size))
        values.append(draw(length, kv_heads, size))
        slots = [used[at // block_size] * block_size + at % block_size for at in range(length)]
        reshape_and_cache(
            keys[-1], values[-1], key_cache, value_cache, torch.tensor(slots, dtype=torch.int32),
            nz=nz,
        )  # fmt: skip
    return Batch(
        queries,
        contexts,
        draw(sum(queries), heads, size),
        keys,
        values,
        key_cache,
        value_cache,
        table,
    )


def assert_one_rounding(found: torch.Tensor, exact: torch.Tensor) -> None:
    """Off by at most a rounding of its dtype, and what float32 sums of a few hundred leave."""
    spacing = torch.finfo(found.dtype).eps * exact.abs() + 1e-5
    assert bool(((found.double() - exact).abs() <= spacing).all())
