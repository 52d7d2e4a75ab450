# SPDX-License-Identifier: Apache-2.0
"""The emulated torch_npu for one test, and batches as its operators take them."""

from collections.abc import Callable, Iterator
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
