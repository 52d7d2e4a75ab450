# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's attention of the 310P with our patches: the same results, and those it lacks."""

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ascend_attention import CPU, POOLING, STATES, VERSIONS, attention
from ascend_runtime import MARKS
from attention_kit import SCALE, assert_one_rounding, random_batch

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.attention.compressed import compressed_masks_work
from vllm_ascend_bringup.errors import PlatformError
from vllm_ascend_bringup.patch_engine import PatchEngine
from vllm_ascend_bringup.patches.attention_310p import _masks_up_to
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import installed_versions

pytestmark = [*MARKS, pytest.mark.usefixtures("own_masks")]

NAMES = ("compressed_masks_310p", "prompt_masks_310p", "attention_310p")
SPLITFUSE = "_npu_paged_attention_splitfuse_v2"


@pytest.fixture(params=[*VERSIONS.values()], ids=[*VERSIONS])
def version(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def forget() -> Iterator[None]:
    """What is kept for a process, of another emulation."""
    for kept in (compressed_masks_work, _masks_up_to):
        kept.cache_clear()
    yield
    for kept in (compressed_masks_work, _masks_up_to):
        kept.cache_clear()


@pytest.fixture
def torch_npu(version: str, forget: None) -> Any:
    return emulation.install(version=version)


@pytest.fixture
def patched(torch_npu: Any) -> Iterator[Any]:
    """torch_npu, with the patches applied to the modules that vllm-ascend has imported."""
    import vllm_ascend._310p.attention.attention_v1  # noqa: F401 (what is patched)

    engine = PatchEngine([PATCHES[name] for name in NAMES], lambda status: pytest.fail(str(status)))
    engine.apply(installed_versions())
    assert engine.applied == list(NAMES)
    yield torch_npu
    engine.revert()


@pytest.mark.parametrize("state", STATES)
def test_results_are_unchanged(state: str, ascend_config: Any, patched: Any) -> None:
    for seed in range(40):
        batch = random_batch(seed, nz=True, dtype=torch.float16, **STATES[state])
        found = attention(batch, state, ascend_config, patched)
        assert_one_rounding(found, batch.exact())


@pytest.mark.parametrize("state", STATES)
def test_windows(state: str, ascend_config: Any, patched: Any) -> None:
    for seed in range(40):
        batch = random_batch(seed, nz=True, dtype=torch.float16, **STATES[state])
        found = attention(batch, state, ascend_config, patched, window=1 + seed)
        assert_one_rounding(found, batch.exact(window=1 + seed))


def test_a_window_is_ignored_without_the_patches(ascend_config: Any, torch_npu: Any) -> None:
    batch = random_batch(1, nz=True, dtype=torch.float16)
    found = attention(batch, "ChunkedPrefill", ascend_config, torch_npu, window=2)
    assert_one_rounding(found, batch.exact())


def test_pooling_without_causality(ascend_config: Any, patched: Any) -> None:
    """Texts of several tiles too, where a mask of fixed size hides what comes later."""
    for seed in range(8):
        batch = random_batch(seed, nz=True, dtype=torch.float16, fresh=True, longest=300)
        found = attention(batch, "PrefillNoCache", ascend_config, patched, POOLING)
        assert_one_rounding(found, batch.exact(tile=max(batch.queries)))


def test_chunks_in_pieces(
    ascend_config: Any, patched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    masks = _masks_up_to(CPU, ascend_config.scheduler_config.max_num_batched_tokens)
    monkeypatch.setattr(masks, "budget", 1)
    for seed in range(10):
        batch = random_batch(seed, nz=True, dtype=torch.float16)
        found = attention(batch, "ChunkedPrefill", ascend_config, patched)
        assert_one_rounding(found, batch.exact())


@pytest.mark.parametrize("version", [VERSIONS["whole masks"]])
def test_masks_agree_with_theirs_where_an_operator_reads(
    ascend_config: Any, torch_npu: Any, version: str
) -> None:
    from vllm_ascend._310p.attention.attention_mask import AttentionMaskBuilder310

    theirs = AttentionMaskBuilder310(CPU, 400)
    ours = _masks_up_to(CPU, 400)
    for longest in (1, 16, 17, 300, 400):
        whole = theirs.get_attention_mask(True, SimpleNamespace(runner_type="generate"))
        assert torch.equal(cells(ours.prompt(longest), longest), cells(whole, longest))
    for queries, contexts in (([1], [1]), ([3, 1, 20], [3, 77, 400]), ([16], [32])):
        starts = torch.tensor([0, *queries]).cumsum(0)
        metadata = SimpleNamespace(query_start_loc=starts, seq_lens=torch.tensor(contexts))
        whole = theirs.get_splitfuse_mask(metadata, CPU)
        ((_, rows),) = ours.chunks(queries, contexts)
        assert rows.shape[2] == whole.shape[2]
        found, expected = (
            part[0].transpose(0, 1).flatten(1)[: sum(queries), : max(contexts)]
            for part in (rows, whole)
        )
        assert torch.equal(found, expected)


def cells(mask: torch.Tensor, side: int) -> torch.Tensor:
    return mask[0].transpose(0, 1).flatten(1)[:side, :side]


@pytest.mark.parametrize("version", [VERSIONS["whole masks"]])
def test_a_mask_is_as_long_as_the_prompts(ascend_config: Any, patched: Any, version: str) -> None:
    from ascend_attention import metadata

    for requests, side in (([(5, 0), (17, 0)], 32), ([(1, 0)], 32), ([(33, 0)], 64)):
        batch = random_batch(0, nz=True, dtype=torch.float16, requests=requests)
        made = metadata(batch, "PrefillNoCache", ascend_config)
        assert made.attn_mask.shape == (1, side // 16, side, 16)


class Broken:
    """torch_npu, but for one operator."""

    def __init__(self, torch_npu: Any, operator: Any) -> None:
        self.__dict__ |= {"torch_npu": torch_npu, SPLITFUSE: operator}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["torch_npu"], name)


@pytest.mark.parametrize("version", [VERSIONS["compressed masks"]])
def test_operators_are_run_before_they_are_trusted(torch_npu: Any, version: str) -> None:
    def missing(**arguments: Any) -> None:
        raise RuntimeError("atb::PagedAttention: mask type 5 is not supported\nmore")

    def leaking(*, context_lens: torch.Tensor, **arguments: Any) -> None:
        """Beyond the mask's 2048 keys, the first queries of a chunk see one key too many."""
        run = getattr(torch_npu, SPLITFUSE)
        run(context_lens=context_lens, **arguments)
        if int(context_lens) > 2048 and len(arguments["query"]) > 1:
            first = {name: arguments[name][:-1] for name in ("query", "out")}
            lengths = {"seq_len": arguments["seq_len"] - 1, "context_lens": context_lens}
            run(**{**arguments, **first, **lengths})

    assert compressed_masks_work(torch_npu) == ""
    assert compressed_masks_work(Broken(torch_npu, missing)) == (
        f"{SPLITFUSE} fails: atb::PagedAttention: mask type 5 is not supported"
    )
    reason = compressed_masks_work(Broken(torch_npu, leaking))
    assert reason.startswith(f"{SPLITFUSE} is wrong: query 2176 of 2304 tokens does not see")


@pytest.mark.parametrize("version", [VERSIONS["whole masks"]])
def test_what_torch_npu_does_not_have_is_not_run(torch_npu: Any, version: str) -> None:
    assert compressed_masks_work(torch_npu) == "torch_npu lacks _npu_flash_attention_v3"


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"logits_soft_cap": 30.0}, "a soft cap of logits on the 310P"),
        ({"sinks": torch.zeros(2)}, "attention sinks on the 310P"),
        (
            {"attn_type": "encoder_only", "sliding_window": 8},
            "a window without causality on the 310P",
        ),
    ],
)
def test_what_no_operator_computes_is_refused(
    changed: dict[str, Any], found: str, ascend_config: Any, patched: Any
) -> None:
    from vllm_ascend._310p.attention.attention_v1 import AscendAttentionBackendImpl310

    arguments: dict[str, Any] = {
        "num_heads": 2, "head_size": 16, "scale": SCALE, "num_kv_heads": 1, "alibi_slopes": None,
        "sliding_window": None, "kv_cache_dtype": "auto", "logits_soft_cap": None,
        "attn_type": "decoder", "kv_sharing_target_layer_name": None,
    }  # fmt: skip
    AscendAttentionBackendImpl310(**arguments)
    with pytest.raises(PlatformError, match=found):
        AscendAttentionBackendImpl310(**{**arguments, **changed})


@pytest.mark.parametrize("state", ["ChunkedPrefill", "DecodeOnly"])
def test_a_captured_graph_takes_no_mask_that_follows_the_batch(
    state: str, ascend_config: Any, patched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vllm_ascend_bringup.patches.attention_310p._capturing", lambda: True)
    batch = random_batch(1, nz=True, dtype=torch.float16, **STATES[state])
    with pytest.raises(PlatformError, match="in a captured graph on the 310P"):
        attention(batch, state, ascend_config, patched, window=2)
