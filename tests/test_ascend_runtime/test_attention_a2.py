# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's attention of A2 and A3, from its metadata to its output, against torch's own."""

from typing import Any

import pytest
import torch
from ascend_attention import POOLING, STATES, attention
from ascend_runtime import MARKS, InstallChip
from attention_kit import assert_one_rounding, random_batch

pytestmark = MARKS

SEEDS = range(40)


@pytest.mark.parametrize(
    ("chip", "dtype"), [("a2", torch.float16), ("a2", torch.bfloat16), ("a3", torch.bfloat16)]
)
@pytest.mark.parametrize("state", STATES)
def test_random_batches(
    state: str,
    chip: str,
    dtype: torch.dtype,
    ascend_config: Any,
    install_chip: InstallChip,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch_npu = install_chip(chip)
    # npu_scatter_pa_kv_cache writes the cache.
    monkeypatch.delattr(torch_npu, "_npu_reshape_and_cache")
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=dtype, **STATES[state])
        found = attention(batch, state, ascend_config, torch_npu)
        assert_one_rounding(found, batch.exact())


@pytest.mark.parametrize("state", STATES)
def test_a_window_sees_one_key_more(
    state: str, ascend_config: Any, install_chip: InstallChip
) -> None:
    """vllm-ascend hands the window to the operator as pre_tokens, the keys seen before a query's
    own: one more than vLLM's window has, which counts that one. For a single query the operator's
    documentation says that pre_tokens does nothing. Both are to be seen on hardware.
    """
    torch_npu = install_chip("a2")
    wider = 0
    for seed in SEEDS:
        window = 1 + seed
        batch = random_batch(seed, nz=False, dtype=torch.bfloat16, **STATES[state])
        found = attention(batch, state, ascend_config, torch_npu, window=window)
        assert_one_rounding(found, batch.exact(window=window + 1))
        if max(batch.contexts) > window:
            wider += 1
            with pytest.raises(AssertionError):
                assert_one_rounding(found, batch.exact(window=window))
    assert wider > len(SEEDS) // 2


def test_pooling_without_causality(ascend_config: Any, install_chip: InstallChip) -> None:
    torch_npu = install_chip("a2")
    for seed in SEEDS:
        batch = random_batch(seed, nz=False, dtype=torch.float16, fresh=True)
        found = attention(batch, "PrefillNoCache", ascend_config, torch_npu, POOLING)
        assert_one_rounding(found, batch.exact(tile=max(batch.queries)))
