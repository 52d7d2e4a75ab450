# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's attention of the 310P, from its metadata to its output, against torch's own."""

from typing import Any

import pytest
import torch
from ascend_attention import POOLING, STATES, VERSIONS, attention
from ascend_runtime import MARKS
from attention_kit import assert_one_rounding, random_batch

from vllm_ascend_bringup import emulation

pytestmark = [*MARKS, pytest.mark.usefixtures("own_masks")]

SEEDS = range(40)


@pytest.fixture(params=[*VERSIONS.values()], ids=[*VERSIONS])
def torch_npu(request: pytest.FixtureRequest) -> Any:
    return emulation.install(version=request.param)


@pytest.mark.parametrize("state", STATES)
def test_random_batches(state: str, ascend_config: Any, torch_npu: Any) -> None:
    for seed in SEEDS:
        batch = random_batch(seed, nz=True, dtype=torch.float16, **STATES[state])
        found = attention(batch, state, ascend_config, torch_npu)
        assert_one_rounding(found, batch.exact())


@pytest.mark.parametrize("version", VERSIONS.values(), ids=[*VERSIONS])
def test_pooling_without_causality(version: str, ascend_config: Any) -> None:
    """Whole masks let every token see every token. With a mask of fixed size the operator reads one
    tile and hides later ones, so longer texts than a tile come out otherwise (ATB's
    UnpadFlashAttentionNz; to be seen on hardware).
    """
    torch_npu = emulation.install(version)
    for seed in range(8):
        batch = random_batch(seed, nz=True, dtype=torch.float16, fresh=True, longest=300)
        found = attention(batch, "PrefillNoCache", ascend_config, torch_npu, POOLING)
        tile = 128 if version == VERSIONS["compressed masks"] else max(batch.queries)
        assert_one_rounding(found, batch.exact(tile=tile))
