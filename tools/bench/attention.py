# SPDX-License-Identifier: Apache-2.0
"""The reference attentions against torch's own on the same batch, both in float32.

For prompts and chunks torch gets queries, keys and masks as it wants them; what the references do
besides is to read the cache, to convert, and to make or read masks. A token's attention is nothing
but reading, so there torch has to gather its keys from the cache too.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch.nn.functional import scaled_dot_product_attention

from vllm_ascend_bringup.attention.masks import LegacyMasks
from vllm_ascend_bringup.attention.step import Step, int32
from vllm_ascend_bringup.kernels.flash_attention import flash_attention
from vllm_ascend_bringup.kernels.fused_infer_attention import fused_infer_attention
from vllm_ascend_bringup.kernels.paged_attention import paged_attention
from vllm_ascend_bringup.kernels.reshape_and_cache import reshape_and_cache
from vllm_ascend_bringup.kernels.splitfuse_attention import splitfuse_attention

_ROUNDS = 9
_HEADS, _KV_HEADS, _SIZE, _BLOCK = 16, 4, 128, 128
_SCALE = _SIZE**-0.5
_LENGTHS = (1024, 300, 777, 129)
_CHUNK = 512


@dataclass(frozen=True)
class Ratio:
    """Time of a reference over that of torch's attention. against: what torch had to do."""

    name: str
    value: float
    against: str


def ratios() -> list[Ratio]:
    """Of every operator on a batch of four requests; median over alternating rounds."""
    torch.manual_seed(0)
    return [_flash(), _splitfuse(), _paged(), _fused(chunk=_CHUNK), _fused(chunk=1)]


class _Batch:
    """Requests of ``_LENGTHS`` keys, the last ``chunk`` of each in this step, None for all."""

    def __init__(self, chunk: int | None, dtype: torch.dtype, *, nz: bool) -> None:
        self.queries = [min(chunk or length, length) for length in _LENGTHS]
        self.query = torch.randn(sum(self.queries), _HEADS, _SIZE).to(dtype)
        self.keys, self.values = (
            [torch.randn(length, _KV_HEADS, _SIZE).to(dtype) for length in _LENGTHS]
            for _ in range(2)
        )
        needed = [-(-length // _BLOCK) for length in _LENGTHS]
        order = torch.randperm(sum(needed)).tolist()
        self.table = torch.zeros(len(_LENGTHS), max(needed), dtype=torch.int32)
        shape = (len(order), _BLOCK, _KV_HEADS, _SIZE)
        if nz:
            shape = (len(order), _KV_HEADS * _SIZE // 16, _BLOCK, 16)
        self.key_cache, self.value_cache = (torch.zeros(shape, dtype=dtype) for _ in range(2))
        for row, length in enumerate(_LENGTHS):
            blocks = int32([order.pop() for _ in range(needed[row])])
            self.table[row, : needed[row]] = blocks
            at = torch.arange(length)
            slots = blocks[at // _BLOCK] * _BLOCK + at % _BLOCK
            reshape_and_cache(
                self.keys[row],
                self.values[row],
                self.key_cache,
                self.value_cache,
                slots.int(),
                nz=nz,
            )

    def against(self, name: str, run: Callable[[], object]) -> Ratio:
        """Alternate with torch's own."""
        rival, what = self._prepared(), "keys at hand"
        if len(self.query) == len(_LENGTHS):
            rival, what = self._gathering(), "each request's keys gathered from the cache"
        seconds: tuple[list[float], list[float]] = ([], [])
        for round_ in range(_ROUNDS + 1):
            for times, function in zip(seconds, (run, rival), strict=True):
                started = time.perf_counter()
                function()
                if round_:
                    times.append(time.perf_counter() - started)
        value = statistics.median(seconds[0]) / statistics.median(seconds[1])
        return Ratio(name, value, what)

    def _prepared(self) -> Callable[[], None]:
        prepared = []
        first = 0
        for count, length, key, value in zip(
            self.queries, _LENGTHS, self.keys, self.values, strict=True
        ):
            rows = self.query[first : first + count]
            heads = [part.float().transpose(0, 1)[None] for part in (rows, key, value)]
            positions = torch.arange(length - count, length)[:, None]
            prepared.append((heads, torch.arange(length) <= positions))
            first += count

        def rival() -> None:
            for (query, key, value), seen in prepared:
                scaled_dot_product_attention(
                    query, key, value, attn_mask=seen, scale=_SCALE, enable_gqa=True
                )

        return rival

    def _gathering(self) -> Callable[[], None]:
        nz = self.key_cache.shape[-1] == 16

        def rival() -> None:
            for row, length in enumerate(_LENGTHS):
                blocks = self.table[row, : -(-length // _BLOCK)].long()
                heads = [self.query[row, None]]
                for cache in (self.key_cache, self.value_cache):
                    pages = cache[blocks].transpose(1, 2) if nz else cache[blocks]
                    heads.append(pages.reshape(-1, _KV_HEADS, _SIZE)[:length])
                query, key, value = (part.float().transpose(0, 1)[None] for part in heads)
                scaled_dot_product_attention(query, key, value, scale=_SCALE, enable_gqa=True)

        return rival


def _flash() -> Ratio:
    batch = _Batch(None, torch.float16, nz=True)
    mask = LegacyMasks(torch.float16, torch.device("cpu"), 1024).prompt(max(_LENGTHS))
    key, value = torch.cat(batch.keys), torch.cat(batch.values)
    out = torch.empty_like(batch.query)
    return batch.against("flash_attention", lambda: flash_attention(
        batch.query, key, value, mask, int32(_LENGTHS), _SCALE, _HEADS, _KV_HEADS, out
    ))  # fmt: skip


def _splitfuse() -> Ratio:
    batch = _Batch(_CHUNK, torch.float16, nz=True)
    masks = LegacyMasks(torch.float16, torch.device("cpu"), 1)
    (call,) = Step(batch.queries, list(_LENGTHS), True, masks).calls(None)
    out = torch.empty_like(batch.query)
    return batch.against("splitfuse_attention", lambda: splitfuse_attention(
        batch.query, batch.key_cache, batch.value_cache, batch.table, call.context_lens, call.mask,
        call.seq_len, _KV_HEADS, _HEADS, _SCALE, out, nz=True,
    ))  # fmt: skip


def _paged() -> Ratio:
    batch = _Batch(1, torch.float16, nz=True)
    out = torch.empty_like(batch.query)
    return batch.against("paged_attention", lambda: paged_attention(
        batch.query, batch.key_cache, batch.value_cache, _KV_HEADS, _HEADS, _SCALE, batch.table,
        int32(_LENGTHS), out, nz=True,
    ))  # fmt: skip


def _fused(chunk: int) -> Ratio:
    batch = _Batch(chunk, torch.bfloat16, nz=False)
    key, value = (cache.flatten(2) for cache in (batch.key_cache, batch.value_cache))
    mask = torch.ones(2048, 2048, dtype=torch.int8).triu_(1)
    return batch.against(f"fused_infer_attention_{chunk}", lambda: fused_infer_attention(
        batch.query, key, value, atten_mask=mask, sparse_mode=3,
        actual_seq_lengths=list(accumulate(batch.queries)), actual_seq_lengths_kv=_LENGTHS,
        block_table=batch.table, block_size=_BLOCK, num_heads=_HEADS,
        num_key_value_heads=_KV_HEADS, scale=_SCALE,
    ))  # fmt: skip
