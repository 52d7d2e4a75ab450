# SPDX-License-Identifier: Apache-2.0
"""Layouts, graphs, flags and variables that a plan chooses."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned_models import (
    PlannedModel,
    describe,
    environment,
    names,
    value,
    write_model,
)

from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.fetch_vllm_ascend import VERSIONS
from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.base import Layout
from vllm_ascend_bringup.tools.plan.graphs import XLITE

GIB = 1 << 30


@pytest.mark.parametrize(
    ("name", "quantized", "device", "more", "layout"),
    [
        # As few cards as hold the weights and one request.
        ("Qwen3-8B", None, "a2", {}, Layout(1)),
        ("Qwen3-32B", None, "a2", {}, Layout(2)),
        ("Qwen3-32B", "W8A8_DYNAMIC", "a2", {}, Layout(1)),
        ("Qwen3-32B", None, "310p", {}, Layout(2)),
        # All that are given: for other requests where the chip does that, else for each one.
        ("Qwen3-32B", None, "a2", {"cards": 8}, Layout(2, dp=4)),
        ("Qwen3-32B", None, "310p", {"cards": 4}, Layout(4)),
        ("Qwen3-32B", None, "a2", {"cards": 8, "tp": 8}, Layout(8)),
        # More ranks than KV heads are not clean.
        ("Qwen3-30B-A3B", None, "310p", {"cards": 8}, Layout(4)),
        ("Qwen3-30B-A3B", None, "a2", {}, Layout(2, expert_parallel=True)),
        ("Qwen3-235B-A22B", "W8A8_DYNAMIC", "a2", {}, Layout(4, dp=2, expert_parallel=True)),
        # 128 heads: four ranks are the most that leave 32, so experts are on more by dp.
        ("DeepSeek-V3", "W8A8_DYNAMIC", "a3", {}, Layout(4, dp=4, expert_parallel=True)),
        ("DeepSeek-V3", "W8A8_DYNAMIC", "a2", {"nodes": 2, "max_model_len": 16384},
         Layout(2, dp=8, nodes=2, expert_parallel=True)),
        ("Qwen3-32B", None, "a2", {"nodes": 2}, Layout(8, pp=2, nodes=2)),
        ("Qwen3-32B", None, "a2", {"nodes": 2, "cards": 1}, Layout(1, pp=2, nodes=2)),
        ("Qwen3-32B", None, "a2", {"nodes": 2, "tp": 16}, Layout(16, nodes=2)),
    ],
)  # fmt: skip
def test_layouts(
    name: str, quantized: str | None, device: str, more: dict[str, Any], layout: Layout,
    planned_model: PlannedModel,
) -> None:  # fmt: skip
    plan = make_plan(PlanRequest(planned_model(name, quantized), device, **more))
    assert plan.layout == layout
    assert plan.fits
    assert value(plan, "--tensor-parallel-size") == str(layout.tp)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_heads_of_deepseek_v3_that_graphs_take(tp: int, planned_model: PlannedModel) -> None:
    request = PlanRequest(
        planned_model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3", tp=tp, max_model_len=4096
    )
    plan = make_plan(request)
    assert plan.graphs.mode == "FULL_DECODE_ONLY"
    assert "--enforce-eager" not in names(plan)


@pytest.mark.parametrize(("tp", "heads"), [(8, 16), (16, 8)])
def test_heads_of_deepseek_v3_that_graphs_do_not_take(
    tp: int, heads: int, planned_model: PlannedModel
) -> None:
    plan = make_plan(PlanRequest(planned_model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3", tp=tp))
    assert plan.graphs.mode == "NONE"
    assert f"{heads} heads on a rank" in plan.graphs.reason.en
    assert "--enforce-eager" in names(plan)
    assert "--compilation-config" not in names(plan)
    assert any("--enforce-eager" in note.en for note in plan.notes)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_no_size_gives_deepseek_v2_lite_graphs(tp: int, planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("DeepSeek-V2-Lite"), "a2", tp=tp))
    assert "--enforce-eager" in names(plan)


def test_without_a_length_less_context_is_better_than_no_graphs(
    planned_model: PlannedModel,
) -> None:
    request = PlanRequest(planned_model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3")
    plan = make_plan(request)
    assert plan.layout.tp == 4
    assert 4096 <= plan.max_model_len < 163840
    # Who asks for all of it gets it, at the price of graphs.
    assert make_plan(replace(request, max_model_len=163840)).layout.tp == 16


def test_too_large(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-32B"), "310p", tp=1))
    assert not plan.fits
    assert plan.capacity.requests == plan.capacity.tokens == 0
    said = " ".join(text.en for text in plan.advice)
    assert "leave out --cards and --tp" in said
    assert "W8A8" in said
    # A card that is just too small says which context would do.
    tight = make_plan(
        PlanRequest(
            planned_model("Qwen3-8B"), "a2", tp=1, max_model_len=40960, card_memory=21 * GIB
        )
    )
    assert not tight.fits
    length = tight.capacity.largest_length
    assert f"--max-model-len {length}" in " ".join(text.en for text in tight.advice)
    again = PlanRequest(planned_model("Qwen3-8B"), "a2", tp=1, max_model_len=length,
                        card_memory=21 * GIB)  # fmt: skip
    assert make_plan(again).fits


def test_requests_at_full_length(planned_model: PlannedModel) -> None:
    request = PlanRequest(planned_model("Qwen3-8B"), "310p", max_model_len=16384)
    plan = make_plan(request)
    assert plan.capacity.requests == 5
    assert any(note.en.startswith("5 requests of 16384 tokens fit") for note in plan.notes)
    few = make_plan(replace(request, concurrency=5))
    assert not any("tokens fit at a time" in note.en for note in few.notes)


def test_decode_context_parallel(planned_model: PlannedModel) -> None:
    request = PlanRequest(planned_model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3", decode_cp=2, tp=4,
                          cards=16, max_model_len=16384)  # fmt: skip
    plan = make_plan(request)
    assert value(plan, "--decode-context-parallel-size") == "2"
    assert plan.graphs.mode == "FULL_DECODE_ONLY"
    alone = make_plan(replace(request, decode_cp=1))
    # Each of four data-parallel ranks may have room for half a request more.
    assert 0 <= plan.capacity.requests - 2 * alone.capacity.requests <= 4
    assert any("cudagraph_mode to FULL" in note.en for note in plan.notes)


def test_a_share_of_the_streams(planned_model: PlannedModel) -> None:
    request = PlanRequest(planned_model("Qwen3-8B"), "a2", concurrency=256)
    whole = make_plan(request)
    assert json.loads(value(whole, "--compilation-config") or "") == {
        "cudagraph_mode": "FULL_DECODE_ONLY"
    }
    share = make_plan(replace(request, stream_quota=16))
    content = json.loads(value(share, "--compilation-config") or "")
    assert content["cudagraph_mode"] == "FULL_DECODE_ONLY"
    assert len(content["cudagraph_capture_sizes"]) == 16 * 1800 // 2048
    assert content["cudagraph_capture_sizes"][-1] == 256
    none = make_plan(replace(request, stream_quota=1))
    assert "--enforce-eager" in names(none)


def test_an_encoder_and_decoder_has_piecewise_graphs(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", is_encoder_decoder=True)
    content = json.loads(value(make_plan(PlanRequest(folder, "a2")), "--compilation-config") or "")
    assert content["cudagraph_mode"] == "PIECEWISE"
    assert content["cudagraph_capture_sizes"] == [1, 2, 4, 8, 16, 24, 32]
    shared = make_plan(PlanRequest(folder, "a2", stream_quota=512))
    assert "--enforce-eager" in names(shared)
    old = make_plan(PlanRequest(folder, "a2", vllm_ascend="0.18.0"))
    assert "sizes" not in (value(old, "--compilation-config") or "")


def test_the_largest_batch_is_captured(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-8B"), "a2", concurrency=20))
    assert plan.graphs.sizes == (1, 2, 4, 8, 16, 20)
    assert plan.graphs.explicit
    most = make_plan(PlanRequest(planned_model("Qwen3-8B"), "a2", concurrency=1000))
    assert most.graphs.sizes[-1] == 512
    assert not most.graphs.explicit


def test_xlite(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-8B"), "a2", xlite=True))
    content = json.loads(value(plan, "--additional-config") or "")
    assert content == {"xlite_graph_config": {"enabled": True}}
    assert len(XLITE) == 8


def test_small_batches_have_an_operator_in_old_versions(planned_model: PlannedModel) -> None:
    old = make_plan(
        PlanRequest(planned_model("Qwen3-8B"), "a3", vllm_ascend="0.18.0", concurrency=4)
    )
    recipe = next(r for r in old.recipes if r.id == "low_latency")
    assert recipe.lines == ("bash tools/install_flash_infer_attention_score_ops_a3.sh",)
    assert recipe.note
    assert "pa_shape_list" in recipe.note.en
    new = make_plan(
        PlanRequest(planned_model("Qwen3-8B"), "a3", vllm_ascend="0.23.0", concurrency=4)
    )
    assert not any(r.id == "low_latency" for r in new.recipes)
    assert any("pa_shape_list" in note.en for note in new.notes)
    assert "pa_shape_list" not in (old.command() + new.command())
    p310 = make_plan(
        PlanRequest(planned_model("Qwen3-8B"), "310p", vllm_ascend="0.18.0", concurrency=4)
    )
    assert not any("pa_shape_list" in note.en for note in p310.notes)


def test_environment(planned_model: PlannedModel) -> None:
    one = environment(make_plan(PlanRequest(planned_model("Qwen3-8B"), "a2")))
    assert one == {"ASCEND_RT_VISIBLE_DEVICES": "0",
                   "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}  # fmt: skip
    four = environment(make_plan(PlanRequest(planned_model("Qwen3-8B"), "a2", tp=4)))
    assert four["HCCL_OP_EXPANSION_MODE"] == "AIV"
    assert four["OMP_NUM_THREADS"] == "1"
    assert "HCCL_BUFFSIZE" not in four
    moe = environment(make_plan(PlanRequest(planned_model("Qwen3-30B-A3B"), "a2")))
    assert moe["HCCL_BUFFSIZE"] == "1024"
    nodes = environment(make_plan(PlanRequest(planned_model("Qwen3-32B"), "a2", nodes=2)))
    assert "HCCL_OP_EXPANSION_MODE" not in nodes
    assert nodes["HCCL_IF_IP"] == "$LOCAL_IP"
    assert nodes["GLOO_SOCKET_IFNAME"] == nodes["TP_SOCKET_IFNAME"] == "$NIC"


def test_data_parallel_ranks_share_the_requests(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-8B"), "a2", cards=8, concurrency=100))
    assert plan.layout == Layout(1, dp=8)
    assert value(plan, "--max-num-seqs") == "13"
    assert plan.graphs.sizes == (1, 2, 4, 8, 13)


def test_one_model_on_several_nodes_is_rays(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-32B"), "a2", nodes=2))
    assert value(plan, "--distributed-executor-backend") == "ray"
    assert value(plan, "--pipeline-parallel-size") == "2"
    assert len(plan.commands) == 1
    lines = next(r for r in plan.recipes if r.id == "ray").lines
    head = lines.index("ray start --head --port=6379 --node-ip-address=$LOCAL_IP")
    assert "ray start --address=$HEAD_IP:6379 --node-ip-address=$LOCAL_IP" in lines[head:]
    # Ray hands on what it was started with.
    assert "export HCCL_IF_IP=$LOCAL_IP" in lines[:head]
    assert "export RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES=1" in lines[:head]


def test_experts_on_several_nodes_have_a_command_each(planned_model: PlannedModel) -> None:
    request = PlanRequest(planned_model("DeepSeek-V3", "W8A8_DYNAMIC"), "a2", nodes=2, tp=4,
                          max_model_len=16384)  # fmt: skip
    plan = make_plan(request)
    assert plan.layout == Layout(4, dp=4, nodes=2, expert_parallel=True)
    first, second = plan.command(0), plan.command(1)
    shared = ("--data-parallel-size 4", "--data-parallel-size-local 2",
              '--data-parallel-address "$HEAD_IP"', "--data-parallel-rpc-port 13389")  # fmt: skip
    assert all(flag in command for flag in shared for command in (first, second))
    assert "--headless" not in first
    assert second.endswith("--data-parallel-start-rank 2 --headless")
    assert not any(r.id == "ray" for r in plan.recipes)


@pytest.mark.parametrize("device", DEPLOYMENTS)
def test_fp8_weights_are_decoded(device: str) -> None:
    plan = make_plan(PlanRequest(CHECKPOINT, device))
    assert plan.weights.en == "decoded to 16 bits while loading"
    # Of the demo: embedding, and four layers of q, k, v, o and MLP, all in 16 bits.
    matrices = 448 * 256 + 4 * (256 * 256 * 2 + 2 * 128 * 256 + 3 * 256 * 704)
    vectors = 4 * (2 * 256 + 2 * 64) + 256
    assert plan.memory.part("weights").bytes == 2 * (matrices + vectors)


def test_settings_decide_about_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_DEQUANT", "never")
    plan = make_plan(PlanRequest(CHECKPOINT, "a2"))
    assert plan.weights.en == "quantized, executed as stored"


def test_a_description_of_floats_only_is_not_quantized(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", num_hidden_layers=1)
    describe(folder, {"model_quant_type": "FLOAT", "model.norm.weight": "FLOAT"})
    assert value(make_plan(PlanRequest(folder, "310p")), "--quantization") == "ascend"


def test_states_of_linear_attention_have_the_chips_dtype(tmp_path: Path) -> None:
    kinds = ["linear_attention", "full_attention"] * 18
    folder = write_model(tmp_path / "m", "Qwen3-8B", layer_types=kinds)
    plan = make_plan(PlanRequest(folder, "310p"))
    assert value(plan, "--mamba-ssm-cache-dtype") == "float16"
    assert any("linear attention" in note.en for note in plan.notes)
    other = make_plan(PlanRequest(folder, "a2"))
    assert "--mamba-ssm-cache-dtype" not in names(other)
    assert "--dtype" not in names(other)


def test_a_dtype_that_the_chip_does_not_serve(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", torch_dtype="float32", num_hidden_layers=1)
    assert value(make_plan(PlanRequest(folder, "a2")), "--dtype") == "bfloat16"


def test_the_version_is_the_newest_that_plans_are_checked_with(
    planned_model: PlannedModel,
) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-8B"), "a3"))
    assert plan.vllm_ascend == VERSIONS[-1]
    (docker,) = (recipe for recipe in plan.recipes if recipe.id == "docker")
    assert any(f":v{VERSIONS[-1]}-a3" in line for line in docker.lines)
    assert "    --net=host \\" in docker.lines
    (offline,) = (recipe for recipe in plan.recipes if recipe.id == "offline")
    assert [line.split()[:2] for line in offline.lines[1:]] == [
        ["docker", "pull"], ["docker", "save"], ["docker", "load"], ["docker", "images"],
    ]  # fmt: skip
    assert docker.note
    assert "--privileged=true" in docker.note.en


def test_what_does_not_fit_is_planned_as_near_as_it_comes(planned_model: PlannedModel) -> None:
    plan = make_plan(PlanRequest(planned_model("Qwen3-235B-A22B"), "a2"))
    assert not plan.fits
    assert plan.layout.ranks == 8
    assert any("--nodes 2" in advice.en for advice in plan.advice)
    assert make_plan(PlanRequest(planned_model("Qwen3-235B-A22B"), "a2", nodes=2)).fits


def test_layers_for_multi_token_prediction_are_not_loaded(tmp_path: Path) -> None:
    plain = write_model(tmp_path / "m", "Qwen3-8B", num_hidden_layers=2)
    layer = [(f"model.layers.2.{name}.weight", (4096, 4096)) for name in ("eh_proj", "enorm")]
    more = write_model(tmp_path / "n", "Qwen3-8B", tensors=layer, num_hidden_layers=2)
    plans = [make_plan(PlanRequest(folder, "a2")) for folder in (plain, more)]
    assert plans[0].memory.part("weights") == plans[1].memory.part("weights")
