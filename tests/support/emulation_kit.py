# SPDX-License-Identifier: Apache-2.0
"""The emulated torch_npu for one test, and batches as its operators take them."""

from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import pytest
import torch
from attention_kit import SCALE, Batch

from vllm_ascend_bringup import emulation

FRACTAL_NZ = 29
Install = Callable[..., Any]


@pytest.fixture
def install() -> Iterator[Install]:
    """``emulation.install``, and afterwards there is none."""
    yield emulation.install
    emulation.remove()


@pytest.fixture
def torch_npu(install: Install) -> Any:
    """Of the newest known version before 2.13, on a 310P."""
    return install("2.10.0.post4", "310p")


def nz(tensor: torch.Tensor) -> torch.Tensor:
    """Tagged, as a fractal tensor is on an NPU."""
    import torch_npu

    cast: torch.Tensor = torch_npu.npu_format_cast(tensor, FRACTAL_NZ)
    return cast


def prompt_arguments(batch: Batch) -> dict[str, Any]:
    """What all operators for fresh prompts take."""
    return {
        "query": batch.query, "key": torch.cat(batch.keys), "value": torch.cat(batch.values),
        "seq_len": batch.int32(batch.queries), "scale_value": SCALE, "num_heads": batch.heads,
        "num_kv_heads": batch.kv_heads, "out": torch.full_like(batch.query, float("nan")),
    }  # fmt: skip


def paged_arguments(batch: Batch, cast: Callable[[torch.Tensor], Any] = nz) -> dict[str, Any]:
    """What all operators that read a paged cache take."""
    return {
        "query": batch.query, "key_cache": cast(batch.key_cache),
        "value_cache": cast(batch.value_cache), "num_kv_heads": batch.kv_heads,
        "num_heads": batch.heads, "scale_value": SCALE, "block_table": batch.table,
        "context_lens": batch.int32(batch.contexts),
        "out": torch.full_like(batch.query, float("nan")),
    }  # fmt: skip


def fused_arguments(batch: Batch) -> dict[str, Any]:
    """Of npu_fused_infer_attention_score, causal, over the cache."""
    return {
        "query": batch.query, "key": batch.key_cache.flatten(2),
        "value": batch.value_cache.flatten(2), "block_table": batch.table,
        "block_size": batch.key_cache.shape[1], "input_layout": "TND", "sparse_mode": 3,
        "atten_mask": torch.ones(2048, 2048, dtype=torch.int8).triu(1),
        "actual_seq_lengths": list(accumulate(batch.queries)),
        "actual_seq_lengths_kv": batch.contexts, "num_heads": batch.heads,
        "num_key_value_heads": batch.kv_heads, "scale": SCALE,
    }  # fmt: skip


def without_cache(batch: Batch) -> dict[str, Any]:
    """The same keys and values, packed."""
    return {
        "key": torch.cat(batch.keys), "value": torch.cat(batch.values), "block_table": None,
        "block_size": 0, "actual_seq_lengths_kv": list(accumulate(batch.contexts)),
    }  # fmt: skip


def renamed(arguments: dict[str, Any]) -> dict[str, Any]:
    """What npu_fused_infer_attention_score_v2 calls them."""
    names = {
        "actual_seq_lengths": "actual_seq_qlen", "actual_seq_lengths_kv": "actual_seq_kvlen",
        "num_heads": "num_query_heads", "scale": "softmax_scale",
    }  # fmt: skip
    return {names.get(name, name): argument for name, argument in arguments.items()}
