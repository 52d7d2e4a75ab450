# SPDX-License-Identifier: Apache-2.0
"""Memory of a card: by hand, and against what vLLM itself counts."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned_models import write_model

from vllm_ascend_bringup.attention import CHUNK_MASK_BYTES
from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.kernels.nz_mask import mask_bytes
from vllm_ascend_bringup.model_facts import model_facts
from vllm_ascend_bringup.tools.audit import probe
from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.base import Layout, Plan
from vllm_ascend_bringup.tools.plan.kv_cache import KvCache, kv_cache
from vllm_ascend_bringup.tools.plan.memory import size
from vllm_ascend_bringup.tools.plan.served import read_served
from vllm_ascend_bringup.tools.rank_weights import weight_bytes

MIB, GIB = 1 << 20, 1 << 30
BLOCK = 128


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    names = ("Qwen3-8B", "Qwen3-32B", "Qwen3-30B-A3B", "DeepSeek-V2-Lite")
    return {name: write_model(folder / name, name) for name in names}


def cache_of(path: Path, device: str, layout: Layout) -> KvCache:
    return kv_cache(read_served(path, device), layout, device)


def parts(plan: Plan) -> dict[str, int]:
    return {part.id: part.bytes for part in plan.memory.parts}


@pytest.mark.parametrize(
    ("name", "layout", "device", "token"),
    [
        # K and V x layers x heads x size x 2 bytes
        ("Qwen3-8B", Layout(1), "a2", 2 * 36 * 8 * 128 * 2),
        ("Qwen3-32B", Layout(4), "310p", 2 * 64 * 2 * 128 * 2),
        ("Qwen3-32B", Layout(16), "a3", 2 * 64 * 1 * 128 * 2),
        ("Qwen3-32B", Layout(4, pp=3, nodes=3), "a2", 2 * 22 * 2 * 128 * 2),
        ("Qwen3-30B-A3B", Layout(8), "a2", 2 * 48 * 1 * 128 * 2),
        ("DeepSeek-V2-Lite", Layout(1), "a2", 27 * (512 + 64) * 2),
        ("DeepSeek-V2-Lite", Layout(4), "a2", 27 * (512 + 64) * 2),
    ],
)
def test_a_token_of_kv_cache(
    name: str, layout: Layout, device: str, token: int, models: dict[str, Path]
) -> None:
    assert cache_of(models[name], device, layout).token_bytes == token


@pytest.mark.parametrize(
    ("name", "tp", "pp"),
    [("Qwen3-8B", 1, 1), ("Qwen3-8B", 16, 1), ("Qwen3-32B", 4, 2), ("Qwen3-30B-A3B", 8, 1),
     ("DeepSeek-V2-Lite", 2, 1)],
)  # fmt: skip
def test_a_block_is_as_large_as_vllms_own(
    name: str, tp: int, pp: int, models: dict[str, Path]
) -> None:
    import torch
    from vllm.config import ParallelConfig
    from vllm.engine.arg_utils import EngineArgs
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MLAAttentionSpec

    config = EngineArgs(model=str(models[name]), skip_tokenizer_init=True).create_model_config()
    parallel = ParallelConfig(tensor_parallel_size=tp, pipeline_parallel_size=pp)
    kind: Any = MLAAttentionSpec if config.use_mla else FullAttentionSpec
    spec = kind(block_size=BLOCK, num_kv_heads=config.get_num_kv_heads(parallel),
                head_size=config.get_head_size(), dtype=torch.bfloat16)  # fmt: skip
    layers = config.get_num_layers(parallel)
    ours = cache_of(models[name], "a2", Layout(tp, pp=pp))
    assert ours.block * ours.token_bytes == layers * spec.page_size_bytes


@pytest.mark.parametrize(("tokens", "blocks"), [(1, 1), (127, 1), (128, 1), (129, 2), (40960, 320)])
def test_a_request_takes_whole_blocks(tokens: int, blocks: int, models: dict[str, Path]) -> None:
    cache = cache_of(models["Qwen3-8B"], "a2", Layout(1))
    assert cache.request_bytes(tokens, 2048) == blocks * BLOCK * cache.token_bytes
    shared = replace(cache, decode_cp=2)
    assert shared.request_bytes(tokens, 2048) == -(-tokens // 256) * BLOCK * cache.token_bytes


def test_layers_with_a_window_keep_a_window(tmp_path: Path) -> None:
    kinds = (["sliding_attention"] * 5 + ["full_attention"]) * 6
    folder = write_model(tmp_path / "m", "Qwen3-8B", sliding_window=1024, layer_types=kinds,
                         use_sliding_window=True)  # fmt: skip
    cache = cache_of(folder, "a2", Layout(1))
    assert (cache.full, cache.sliding) == (6, 30)
    window = -(-(1024 + 2048) // BLOCK) + 1
    blocks = 6 * 320 + 30 * window
    assert cache.request_bytes(40960, 2048) == blocks * BLOCK * 2 * 8 * 128 * 2
    # One shorter than the window keeps what it has.
    assert cache.request_bytes(128, 2048) == 36 * BLOCK * 2 * 8 * 128 * 2
    every = write_model(tmp_path / "n", "Qwen3-8B", sliding_window=1024, use_sliding_window=None)
    assert cache_of(every, "a2", Layout(1)).sliding == 36
    linear = ["linear_attention", "full_attention"] * 18
    mixed = write_model(tmp_path / "l", "Qwen3-8B", layer_types=linear)
    assert cache_of(mixed, "a2", Layout(1)).full == 18


@pytest.mark.parametrize(
    ("name", "tp"),
    [("Qwen3-8B", 4), ("Qwen3-8B", 16), ("Qwen3-30B-A3B", 4), ("DeepSeek-V2-Lite", 2)],
)
def test_weights_of_a_rank_are_those_of_vllms_class(
    name: str, tp: int, models: dict[str, Path]
) -> None:
    checkpoint = read_checkpoint(models[name])
    parameters = probe(checkpoint, tp)["parameters"]
    held = 2 * sum(math.prod(parameter["shape"]) for parameter in parameters.values())
    weights = weight_bytes(checkpoint.tensors.values(), None, cast=True)
    assert weights.on_rank(model_facts(checkpoint.config), tp) == held


def test_experts_are_divided_over_all_ranks_that_share_them(models: dict[str, Path]) -> None:
    checkpoint = read_checkpoint(models["Qwen3-30B-A3B"])
    model, weights = model_facts(checkpoint.config), weight_bytes(checkpoint.tensors.values(), None)
    assert weights.by_experts == 48 * 128 * 3 * 2048 * 768 * 2
    saved = weights.on_rank(model, 2) - weights.on_rank(model, 2, sharing=8)
    assert saved == weights.by_experts // 2 - weights.by_experts // 8


def test_a_pipeline_divides_layers_and_gives_each_end_to_one_stage(
    models: dict[str, Path],
) -> None:
    checkpoint = read_checkpoint(models["Qwen3-32B"])
    model, weights = model_facts(checkpoint.config), weight_bytes(checkpoint.tensors.values(), None)
    ends = weights.first + weights.last
    assert weights.first == weights.last == 151936 * 5120 * 2
    layers = weights.on_rank(model, 4) - ends // 4
    assert weights.on_rank(model, 4, pp=2) == pytest.approx(layers / 2 + weights.first / 4, abs=1)
    third = layers * 22 / 64 + weights.first / 4
    assert weights.on_rank(model, 4, pp=3) == pytest.approx(third, abs=1)


def test_weights_that_are_not_quantized_are_loaded_in_16_bits(tmp_path: Path) -> None:
    wide = write_model(tmp_path / "m", "Qwen3-8B", dtype="F32", num_hidden_layers=1)
    narrow = write_model(tmp_path / "n", "Qwen3-8B", num_hidden_layers=1)
    sizes = [parts(make_plan(PlanRequest(folder, "a2")))["weights"] for folder in (wide, narrow)]
    assert sizes[0] == sizes[1]


def test_the_kv_cache_gets_what_is_left_of_vllms_share(models: dict[str, Path]) -> None:
    plan = make_plan(PlanRequest(models["Qwen3-8B"], "a2", card_memory=32 * GIB))
    found, memory = parts(plan), plan.memory
    assert memory.usable_bytes == math.floor(32 * GIB * 0.9)
    others = sum(found[name] for name in ("weights", "activations", "masks", "communicators",
                                          "runtime"))  # fmt: skip
    block = BLOCK * 2 * 36 * 8 * 128 * 2
    assert found["kv_cache"] == (memory.usable_bytes - others) // block * block
    assert memory.free_bytes == 32 * GIB - sum(found.values())
    assert plan.capacity.tokens == found["kv_cache"] // block * BLOCK
    assert plan.capacity.requests == found["kv_cache"] // (block * 40960 // BLOCK)
    assert "workspace" not in found


def test_the_310p_keeps_half(models: dict[str, Path]) -> None:
    plan = make_plan(PlanRequest(models["Qwen3-8B"], "310p"))
    found = parts(plan)
    block = BLOCK * 2 * 36 * 8 * 128 * 2
    assert 0 <= found["workspace"] - found["kv_cache"] <= block
    whole = sum(bytes for name, bytes in found.items() if name != "graphs")
    assert plan.memory.usable_bytes - block <= whole <= plan.memory.usable_bytes


@pytest.mark.parametrize("length", [1, 17, 2048, 16384, 40960])
def test_masks_of_the_310p(
    length: int, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    request = PlanRequest(models["Qwen3-8B"], "310p", max_model_len=length)
    side = min(2048, 1 << (length - 1).bit_length())
    chunk = min(CHUNK_MASK_BYTES, mask_bytes(2048, length))
    assert parts(make_plan(request))["masks"] == mask_bytes(side, side) + 2 * chunk
    # vllm-ascend alone keeps two of the longest context, squared.
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_PATCHES", "off")
    padded = -(-length // 16) * 16
    assert parts(make_plan(request))["masks"] == 2 * (2 * padded * padded)


def test_without_the_patches_a_long_context_does_not_fit(
    models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", max_position_embeddings=131072)
    request = PlanRequest(folder, "310p", max_model_len=65536)
    assert make_plan(request).fits
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_PATCHES", "off")
    alone = make_plan(replace(request, tp=1))
    assert not alone.fits
    assert alone.capacity.largest_length % BLOCK == 0
    assert make_plan(replace(request, tp=1, max_model_len=alone.capacity.largest_length)).fits
    longer = replace(request, tp=1, max_model_len=alone.capacity.largest_length + BLOCK)
    assert not make_plan(longer).fits


def test_communicators(models: dict[str, Path]) -> None:
    alone = make_plan(PlanRequest(models["Qwen3-8B"], "a2"))
    assert parts(alone)["communicators"] == 0
    four = make_plan(PlanRequest(models["Qwen3-8B"], "a2", tp=4, cards=4))
    assert parts(four)["communicators"] == 2 * 200 * MIB
    moe = make_plan(PlanRequest(models["Qwen3-30B-A3B"], "a2", tp=2, cards=8))
    assert moe.layout == Layout(2, dp=4, expert_parallel=True)
    assert parts(moe)["communicators"] == 2 * (200 + 50 + 200 + 1024) * MIB


def test_activations_are_the_larger_of_a_layer_and_the_logits(models: dict[str, Path]) -> None:
    few = make_plan(PlanRequest(models["Qwen3-8B"], "a2", concurrency=1))
    heads = (32 + 2 * 8) * 128
    assert parts(few)["activations"] == 2048 * (4 * 4096 + heads + 3 * 12288) * 2
    many = make_plan(PlanRequest(models["Qwen3-8B"], "a2", concurrency=1024))
    assert parts(many)["activations"] == 1024 * 151936 * 6


def test_what_vllm_ascend_measured(tmp_path: Path) -> None:
    """Of a start of a model with 1.14 GiB of weights, the log of pull request 8289 has 0.22 GiB of
    activations, 0.13 of other memory, 0.04 of graphs, and 53.46 GiB for the KV cache.
    """
    small: dict[str, Any] = {
        "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
        "num_attention_heads": 16, "tie_word_embeddings": True,
    }  # fmt: skip
    folder = write_model(tmp_path / "m", "Qwen3-8B", **small)
    plan = make_plan(
        PlanRequest(folder, "a2", concurrency=256, card_memory=round(61.27 * GIB),
                    memory_utilization=0.9)
    )  # fmt: skip
    found = {name: bytes / GIB for name, bytes in parts(plan).items()}
    # The checkpoint of this test has a head of its own, which a tied model does not.
    assert found["activations"] == pytest.approx(0.22, abs=0.005)
    assert found["runtime"] == pytest.approx(0.13, abs=0.005)
    assert found["graphs"] == pytest.approx(0.04, abs=0.03)


def test_every_part_has_a_formula_in_both_languages(models: dict[str, Path]) -> None:
    for device in DEPLOYMENTS:
        for part in make_plan(PlanRequest(models["Qwen3-8B"], device)).memory.parts:
            assert part.formula.en
            assert part.formula.zh
            assert "{" not in part.formula.en + part.formula.zh


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (MIB, "1.00 MiB"), (-3 * GIB, "-3.00 GiB")],
)
def test_sizes_for_people(count: int, text: str) -> None:
    assert size(count) == text
