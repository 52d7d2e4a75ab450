# SPDX-License-Identifier: Apache-2.0
"""Do the 310P's operators that take a mask of fixed size compute what they should?

torch_npu has a function for each whether or not the installed NNAL has the kernels, and from the
source of the second one future keys seem to be visible in contexts beyond its mask. So both are run
once, on batches whose answer is known, before they are trusted.
"""

import functools
from typing import Any

import torch

from vllm_ascend_bringup.kernels.nz_mask import mask_rows
from vllm_ascend_bringup.operators import COMPRESSED_MASKS

_SIZE, _BLOCK = 64, 128
_SIDE = 2048
_ND, _FRACTAL_NZ = 2, 29
# Keys and queries of a request. Of prompts, one is longer than the operator's tile.
_PROMPTS = ((1, 1), (300, 300))
# Of chunks: within the mask; past it from the start of a block; and where, by the source, future
# keys become visible: a chunk that starts within a block, and two tokens on both sides of an edge.
_CHUNKS = ((300, 172), (2304, 128), (2128, 128), (2177, 2))
# Values are this or zero: one key too many or too few moves a mean by more than the tolerance.
_VALUE = 1000.0


@functools.cache
def compressed_masks_work(torch_npu: Any) -> str:
    """Empty if both operators are there and right, else what is wrong, in a clause.

    Answered once per process.
    """
    if lacking := [name for name in COMPRESSED_MASKS if not hasattr(torch_npu, name)]:
        return f"torch_npu lacks {lacking[0]}"
    # Where torch_npu puts what is to be on an NPU, which for the emulation is the CPU.
    probe: torch.Tensor = torch_npu.empty_with_format(
        size=(1, 1), dtype=torch.float16, device=torch.device("npu"), acl_format=_ND
    )
    for name, run in zip(COMPRESSED_MASKS, (_prompts, _chunks), strict=True):
        try:
            wrong = run(torch_npu, probe.device)
        except RuntimeError as error:  # the kernel is not in this NNAL, or refuses its arguments
            return f"{name} fails: {str(error).splitlines()[0]}"
        if wrong:
            return f"{name} is wrong: {wrong}"
    return ""


def chunk_mask(device: torch.device) -> torch.Tensor:
    """What the chunked-prefill operator wants: ND ``[2048, 2048]`` float16, -10000 is hidden."""
    ones = torch.ones(_SIDE, _SIDE, dtype=torch.float16, device=device)
    return ones.triu_(1).mul_(-10000)


def prompt_mask(torch_npu: Any, device: torch.device) -> torch.Tensor:
    """What the prefill operator wants: FRACTAL_NZ ``[1, 128, 2048, 16]`` float16."""
    rows = mask_rows(torch.arange(_SIDE, device=device), _SIDE, torch.float16)
    return in_nz(torch_npu, rows)


def in_nz(torch_npu: Any, mask: torch.Tensor) -> torch.Tensor:
    """The same data, marked as FRACTAL_NZ."""
    marked: torch.Tensor = torch_npu.npu_format_cast(mask, _FRACTAL_NZ)
    return marked


def _values(keys: int, device: torch.device) -> torch.Tensor:
    """``[keys, 1, 64]``: key j has its value in column j % 64."""
    columns = torch.arange(keys, device=device) % _SIZE
    return torch.nn.functional.one_hot(columns, _SIZE).half()[:, None] * _VALUE


def _wrong(found: torch.Tensor, keys: int, queries: int) -> str:
    """Queries of zeros see all keys alike: each column is the mean of what is visible in it."""
    positions = torch.arange(keys - queries, keys)[:, None]
    columns = torch.arange(_SIZE)
    in_column = (positions - columns).div(_SIZE, rounding_mode="floor") + 1
    expected = _VALUE * in_column / (positions + 1)
    off = (found[:, 0].float().cpu() - expected).abs() > 0.1 + expected * 2**-10
    if not bool(off.any()):
        return ""
    row = int(off.any(1).nonzero()[0])
    return f"query {keys - queries + row} of {keys} tokens does not see the keys up to its own"


def _prompts(torch_npu: Any, device: torch.device) -> str:
    lengths = [keys for keys, _ in _PROMPTS]
    query = torch.zeros(sum(lengths), 1, _SIZE, dtype=torch.float16, device=device)
    value = torch.cat([_values(keys, device) for keys in lengths])
    out = torch.empty_like(query)
    torch_npu._npu_flash_attention_v3(
        query=query, key=query, value=value, mask=prompt_mask(torch_npu, device),
        seq_len=torch.tensor(lengths, dtype=torch.int32), scale_value=1.0, num_heads=1,
        num_kv_heads=1, mask_type=3, out=out,
    )  # fmt: skip
    rows = out.split(lengths)
    reasons = (_wrong(part, keys, keys) for part, keys in zip(rows, lengths, strict=True))
    return next(filter(None, reasons), "")


def _chunks(torch_npu: Any, device: torch.device) -> str:
    mask = chunk_mask(device)
    for keys, queries in _CHUNKS:
        blocks = -(-keys // _BLOCK)
        shape = (blocks, _SIZE // 16, _BLOCK, 16)
        caches = [
            torch_npu.empty_with_format(
                size=shape, dtype=torch.float16, device=device, acl_format=_FRACTAL_NZ
            )
            for _ in range(2)
        ]
        key = torch.zeros(keys, 1, _SIZE, dtype=torch.float16, device=device)
        torch_npu._npu_reshape_and_cache(
            key=key, value=_values(keys, device), key_cache=caches[0], value_cache=caches[1],
            slot_indices=torch.arange(keys, dtype=torch.int32, device=device),
        )  # fmt: skip
        query = torch.zeros(queries, 1, _SIZE, dtype=torch.float16, device=device)
        out = torch.empty_like(query)
        torch_npu._npu_paged_attention_splitfuse_v2(
            query=query, key_cache=caches[0], value_cache=caches[1], mask=mask,
            block_table=torch.arange(blocks, dtype=torch.int32, device=device)[None],
            seq_len=torch.tensor([queries], dtype=torch.int32),
            context_lens=torch.tensor([keys], dtype=torch.int32, device=device), num_kv_heads=1,
            num_heads=1, scale_value=1.0, mask_type=5, out=out,
        )  # fmt: skip
        if wrong := _wrong(out, keys, queries):
            return wrong
    return ""
