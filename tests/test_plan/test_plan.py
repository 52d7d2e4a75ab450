# SPDX-License-Identifier: Apache-2.0
"""Layouts, refusals, what is printed, and that vLLM's own parser takes every command."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from planned_models import CONFIGS, describe, write_by_ranks, write_config, write_model
from rich.console import Console

from vllm_ascend_bringup.errors import CheckpointError, PlanError
from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.language import Language
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.base import Layout, Plan
from vllm_ascend_bringup.tools.plan.graphs import XLITE
from vllm_ascend_bringup.tools.plan.rendering import render_plan
from vllm_ascend_bringup.tools.plan.script import shell_script

GIB = 1 << 30
Model = Callable[..., Path]


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """``model(name)``, or ``model(name, "W8A8_DYNAMIC")``; written once."""
    folder = tmp_path_factory.mktemp("models")

    def write(name: str, quantized: str | None = None) -> Path:
        path = folder / f"{name}{'-' + quantized if quantized else ''}"
        if path.exists():
            return path
        return write_model(path, name, dtype="I8" if quantized else "BF16", quantized=quantized)

    return write


def value(plan: Plan, name: str) -> str | None:
    return next(setting.value for setting in plan.flags if setting.name == name)


def names(plan: Plan) -> set[str]:
    return {setting.name for setting in plan.flags}


def environment(plan: Plan) -> dict[str, str | None]:
    return {setting.name: setting.value for setting in plan.environment}


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
    model: Model,
) -> None:  # fmt: skip
    plan = make_plan(PlanRequest(model(name, quantized), device, **more))
    assert plan.layout == layout
    assert plan.fits
    assert value(plan, "--tensor-parallel-size") == str(layout.tp)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_heads_of_deepseek_v3_that_graphs_take(tp: int, model: Model) -> None:
    request = PlanRequest(model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3", tp=tp, max_model_len=4096)
    plan = make_plan(request)
    assert plan.graphs.mode == "FULL_DECODE_ONLY"
    assert "--enforce-eager" not in names(plan)


@pytest.mark.parametrize(("tp", "heads"), [(8, 16), (16, 8)])
def test_heads_of_deepseek_v3_that_graphs_do_not_take(tp: int, heads: int, model: Model) -> None:
    plan = make_plan(PlanRequest(model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3", tp=tp))
    assert plan.graphs.mode == "NONE"
    assert f"{heads} heads on a rank" in plan.graphs.reason.en
    assert "--enforce-eager" in names(plan)
    assert "--compilation-config" not in names(plan)
    assert any("--enforce-eager" in note.en for note in plan.notes)


@pytest.mark.parametrize("tp", [1, 2, 4])
def test_no_size_gives_deepseek_v2_lite_graphs(tp: int, model: Model) -> None:
    plan = make_plan(PlanRequest(model("DeepSeek-V2-Lite"), "a2", tp=tp))
    assert "--enforce-eager" in names(plan)


def test_without_a_length_less_context_is_better_than_no_graphs(model: Model) -> None:
    request = PlanRequest(model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3")
    plan = make_plan(request)
    assert plan.layout.tp == 4
    assert 4096 <= plan.max_model_len < 163840
    # Who asks for all of it gets it, at the price of graphs.
    assert make_plan(replace(request, max_model_len=163840)).layout.tp == 16


def test_weights_saved_for_one_size_are_served_at_that_size(tmp_path: Path) -> None:
    folder = write_by_ranks(tmp_path / "m", "Qwen3-32B", 4, 7 * GIB)
    plan = make_plan(PlanRequest(folder, "310p"))
    assert plan.layout == Layout(4)
    assert plan.memory.part("weights").bytes == 7 * GIB
    assert make_plan(PlanRequest(folder, "310p", cards=8)).layout == Layout(4)
    for wrong, said in (({"tp": 2}, "2"), ({"tp": 8, "cards": 8}, "8"), ({"cards": 2}, "2")):
        with pytest.raises(PlanError) as error:
            make_plan(PlanRequest(folder, "310p", **wrong))  # type: ignore[arg-type]
        assert f"weights saved for TP=4, to be served on {said}" in str(error.value)
        assert error.value.exit_code == 13
        assert "以下" not in error.value.said("zh")
        assert error.value.said("zh").startswith("权重按 TP=4 保存")


def test_the_files_of_a_rank_are_missing(tmp_path: Path) -> None:
    folder = write_by_ranks(tmp_path / "m", "Qwen3-32B", 4, GIB)
    (folder / "model-rank-2-part-0.safetensors").unlink()
    with pytest.raises(CheckpointError, match="files of rank 2 are missing"):
        make_plan(PlanRequest(folder, "310p"))


def test_compressed_weights_that_are_not_by_ranks(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", dtype="I8", quantized="W8A8SC")
    with pytest.raises(PlanError, match="W8A8SC weights without files of ranks"):
        make_plan(PlanRequest(folder, "310p"))


@pytest.mark.parametrize(
    ("kind", "device", "known"),
    [("W8A8S", "a2", False), ("W4A8_DYNAMIC", "310p", False), ("W8A8_DYNAMIC", "310p", True),
     ("W4A8_DYNAMIC", "a3", True), ("W8A8_MXFP8", "a2", False)],
)  # fmt: skip
def test_types_of_modelslim(kind: str, device: str, known: bool, tmp_path: Path) -> None:
    folder = write_model(
        tmp_path / "m", "Qwen3-8B", dtype="I8", quantized=kind, num_hidden_layers=1
    )
    if known:
        assert value(make_plan(PlanRequest(folder, device)), "--quantization") == "ascend"
        return
    with pytest.raises(PlanError, match=f"{kind} weights on"):
        make_plan(PlanRequest(folder, device))


@pytest.mark.parametrize(
    ("name", "device", "more", "found"),
    [
        ("DeepSeek-V2-Lite", "310p", {}, "MLA attention on Ascend 310P"),
        ("Qwen3-8B", "a2", {"tp": 3}, "tensor-parallel size 3"),
        ("Qwen3-8B", "a2", {"tp": 16}, "tensor-parallel size 16"),
        ("Qwen3-8B", "310p", {"nodes": 2}, "2 nodes of Ascend 310P"),
        ("Qwen3-8B", "a2", {"max_model_len": 40961}, "a context of 40961 tokens"),
        ("Qwen3-8B", "a2", {"decode_cp": 2}, "2 ranks to a request's KV cache"),
        ("Qwen3-8B", "a2", {"vllm_ascend": "main"}, "vllm-ascend version 'main'"),
        ("Qwen3-8B", "310p", {"xlite": True}, "xlite on 310p"),
        ("DeepSeek-V2-Lite", "a2", {"xlite": True}, "xlite for DeepseekV2ForCausalLM"),
        ("Qwen3-8B", "a2", {"xlite": True, "nodes": 2}, "xlite with 2 pipeline stages"),
        ("Qwen3-8B", "a2", {"extra": ("--max_model_len=1",)}, "--max-model-len among"),
        ("Qwen3-8B", "a2", {"extra": ("-tp", "2")}, "-tp among"),
    ],
)
def test_refusals(name: str, device: str, more: dict[str, Any], found: str, model: Model) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(PlanRequest(model(name), device, **more))
    assert found in error.value.found
    assert error.value.said("zh") != error.value.said("en")


def test_heads_that_the_310p_has_no_operator_for(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", head_dim=72, num_hidden_layers=1)
    with pytest.raises(PlanError, match="attention heads of size 72 on Ascend 310P"):
        make_plan(PlanRequest(folder, "310p"))
    assert make_plan(PlanRequest(folder, "a2")).fits


def test_a_model_that_states_no_context(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", max_position_embeddings=None,
                         num_hidden_layers=1)  # fmt: skip
    with pytest.raises(PlanError, match="states no context length"):
        make_plan(PlanRequest(folder, "a2"))
    assert make_plan(PlanRequest(folder, "a2", max_model_len=4096)).fits


def test_too_large(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-32B"), "310p", tp=1))
    assert not plan.fits
    assert plan.capacity.requests == plan.capacity.tokens == 0
    said = " ".join(text.en for text in plan.advice)
    assert "leave out --cards and --tp" in said
    assert "W8A8" in said
    # A card that is just too small says which context would do.
    tight = make_plan(
        PlanRequest(model("Qwen3-8B"), "a2", tp=1, max_model_len=40960, card_memory=21 * GIB)
    )
    assert not tight.fits
    length = tight.capacity.largest_length
    assert f"--max-model-len {length}" in " ".join(text.en for text in tight.advice)
    again = PlanRequest(model("Qwen3-8B"), "a2", tp=1, max_model_len=length,
                        card_memory=21 * GIB)  # fmt: skip
    assert make_plan(again).fits


def test_requests_at_full_length(model: Model) -> None:
    request = PlanRequest(model("Qwen3-8B"), "310p", max_model_len=16384)
    plan = make_plan(request)
    assert plan.capacity.requests == 5
    assert any(note.en.startswith("5 requests of 16384 tokens fit") for note in plan.notes)
    few = make_plan(replace(request, concurrency=5))
    assert not any("tokens fit at a time" in note.en for note in few.notes)


def test_decode_context_parallel(model: Model) -> None:
    request = PlanRequest(model("DeepSeek-V3", "W8A8_DYNAMIC"), "a3", decode_cp=2, tp=4,
                          cards=16, max_model_len=16384)  # fmt: skip
    plan = make_plan(request)
    assert value(plan, "--decode-context-parallel-size") == "2"
    assert plan.graphs.mode == "FULL_DECODE_ONLY"
    alone = make_plan(replace(request, decode_cp=1))
    # Each of four data-parallel ranks may have room for half a request more.
    assert 0 <= plan.capacity.requests - 2 * alone.capacity.requests <= 4
    assert any("cudagraph_mode to FULL" in note.en for note in plan.notes)


def test_a_share_of_the_streams(model: Model) -> None:
    request = PlanRequest(model("Qwen3-8B"), "a2", concurrency=256)
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


def test_the_largest_batch_is_captured(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-8B"), "a2", concurrency=20))
    assert plan.graphs.sizes == (1, 2, 4, 8, 16, 20)
    assert plan.graphs.explicit
    most = make_plan(PlanRequest(model("Qwen3-8B"), "a2", concurrency=1000))
    assert most.graphs.sizes[-1] == 512
    assert not most.graphs.explicit


def test_xlite(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-8B"), "a2", xlite=True))
    content = json.loads(value(plan, "--additional-config") or "")
    assert content == {"xlite_graph_config": {"enabled": True}}
    assert len(XLITE) == 8


def test_small_batches_have_an_operator_in_old_versions(model: Model) -> None:
    old = make_plan(PlanRequest(model("Qwen3-8B"), "a3", vllm_ascend="0.18.0", concurrency=4))
    recipe = next(r for r in old.recipes if r.id == "low_latency")
    assert recipe.lines == ("bash tools/install_flash_infer_attention_score_ops_a3.sh",)
    assert recipe.note
    assert "pa_shape_list" in recipe.note.en
    new = make_plan(PlanRequest(model("Qwen3-8B"), "a3", vllm_ascend="0.23.0", concurrency=4))
    assert not any(r.id == "low_latency" for r in new.recipes)
    assert any("pa_shape_list" in note.en for note in new.notes)
    assert "pa_shape_list" not in (old.command() + new.command())
    p310 = make_plan(PlanRequest(model("Qwen3-8B"), "310p", vllm_ascend="0.18.0", concurrency=4))
    assert not any("pa_shape_list" in note.en for note in p310.notes)


def test_environment(model: Model) -> None:
    one = environment(make_plan(PlanRequest(model("Qwen3-8B"), "a2")))
    assert one == {"ASCEND_RT_VISIBLE_DEVICES": "0",
                   "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}  # fmt: skip
    four = environment(make_plan(PlanRequest(model("Qwen3-8B"), "a2", tp=4)))
    assert four["HCCL_OP_EXPANSION_MODE"] == "AIV"
    assert four["OMP_NUM_THREADS"] == "1"
    assert "HCCL_BUFFSIZE" not in four
    moe = environment(make_plan(PlanRequest(model("Qwen3-30B-A3B"), "a2")))
    assert moe["HCCL_BUFFSIZE"] == "1024"
    nodes = environment(make_plan(PlanRequest(model("Qwen3-32B"), "a2", nodes=2)))
    assert "HCCL_OP_EXPANSION_MODE" not in nodes
    assert nodes["HCCL_IF_IP"] == "$LOCAL_IP"
    assert nodes["GLOO_SOCKET_IFNAME"] == nodes["TP_SOCKET_IFNAME"] == "$NIC"


def test_one_model_on_several_nodes_is_rays(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-32B"), "a2", nodes=2))
    assert value(plan, "--distributed-executor-backend") == "ray"
    assert value(plan, "--pipeline-parallel-size") == "2"
    assert len(plan.commands) == 1
    lines = next(r for r in plan.recipes if r.id == "ray").lines
    head = lines.index("ray start --head --port=6379 --node-ip-address=$LOCAL_IP")
    assert "ray start --address=$HEAD_IP:6379 --node-ip-address=$LOCAL_IP" in lines[head:]
    # Ray hands on what it was started with.
    assert "export HCCL_IF_IP=$LOCAL_IP" in lines[:head]
    assert "export RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES=1" in lines[:head]


def test_experts_on_several_nodes_have_a_command_each(model: Model) -> None:
    request = PlanRequest(model("DeepSeek-V3", "W8A8_DYNAMIC"), "a2", nodes=2, tp=4,
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


REQUESTS = [
    pytest.param(name, quantized, device, more, id=f"{name}-{device}-{number}")
    for number, (name, quantized, device, more) in enumerate((
        *((name, None, device, {}) for name in ("Qwen3-8B", "Qwen3-32B", "Qwen3-30B-A3B")
          for device in DEPLOYMENTS),
        ("DeepSeek-V2-Lite", None, "a2", {}),
        ("DeepSeek-V3", "W8A8_DYNAMIC", "a3", {}),
        ("DeepSeek-V3", "W8A8_DYNAMIC", "a2", {"nodes": 2, "tp": 4, "max_model_len": 16384}),
        ("Qwen3-235B-A22B", "W8A8_DYNAMIC", "a2", {"nodes": 2}),
        ("Qwen3-32B", "W8A8_DYNAMIC", "310p", {"cards": 4}),
        ("Qwen3-32B", None, "a2", {"nodes": 2, "xlite": False}),
        ("Qwen3-8B", None, "a3", {"xlite": True, "concurrency": 20}),
        ("Qwen3-8B", None, "a2", {"stream_quota": 256, "extra": ("--port", "8001")}),
    ))
]  # fmt: skip


@pytest.fixture(scope="session")
def parser() -> Any:
    """That of `vllm serve`."""
    from vllm.entrypoints.cli.serve import ServeSubcommand
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    main = FlexibleArgumentParser()
    ServeSubcommand().subparser_init(main.add_subparsers(dest="subparser"))
    return main


@pytest.mark.parametrize(("name", "quantized", "device", "more"), REQUESTS)
def test_vllms_parser_takes_it(
    name: str, quantized: str | None, device: str, more: dict[str, Any], model: Model, parser: Any
) -> None:
    plan = make_plan(PlanRequest(model(name, quantized), device, **more))
    for command in plan.commands:
        found = parser.parse_args(list(command[1:]))
        assert found.model_tag == str(plan.model)
        assert found.tensor_parallel_size == plan.layout.tp
        assert found.data_parallel_size == plan.layout.dp
        assert found.max_model_len == plan.max_model_len
        assert found.enforce_eager == (plan.graphs.mode == "NONE")
        if plan.graphs.explicit and plan.graphs.sizes:
            sizes = found.compilation_config.cudagraph_capture_sizes
            assert sizes == list(plan.graphs.sizes)


@pytest.mark.parametrize(("name", "quantized", "device", "more"), REQUESTS)
def test_the_script_serves_exactly_what_is_printed(
    name: str, quantized: str | None, device: str, more: dict[str, Any], model: Model,
    tmp_path: Path,
) -> None:  # fmt: skip
    plan = make_plan(PlanRequest(model(name, quantized), device, **more))
    script = tmp_path / "serve.sh"
    script.write_text(shell_script(plan, "zh"))
    assert "set -euo pipefail" in script.read_text()
    subprocess.run(["bash", "-n", str(script)], check=True)
    # A vllm that says what it was called with, and in which environment.
    fake = tmp_path / "vllm"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$ASCEND_RT_VISIBLE_DEVICES" "$@"\n')
    fake.chmod(0o755)
    path = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    network = {"HEAD_IP": "10.0.0.1", "LOCAL_IP": "10.0.0.2", "NIC": "eth0"}
    for node in range(len(plan.commands)):
        done = subprocess.run(
            ["bash", str(script), str(node)], env={**path, **network}, capture_output=True,
            text=True, check=True,
        )  # fmt: skip
        devices, *words = done.stdout.splitlines()
        assert devices == environment(plan)["ASCEND_RT_VISIBLE_DEVICES"]
        printed = [network["HEAD_IP"] if w == "$HEAD_IP" else w
                   for w in shlex.split(plan.command(node))]  # fmt: skip
        assert ["vllm", *words] == printed
    if plan.layout.nodes > 1:
        lacking = subprocess.run(["bash", str(script), "0"], env=path, capture_output=True,
                                 text=True, check=False)  # fmt: skip
        assert lacking.returncode
        assert "LOCAL_IP" in lacking.stderr


def rendered(plan: Plan, language: Language) -> str:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115
    render_plan(plan, console, language, explain=True)
    return console.export_text()


def test_the_text_says_everything(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-32B"), "310p", cards=4))
    text = rendered(plan, "en")
    assert plan.command() in text
    for setting in (*plan.flags, *plan.environment, *plan.defaults):
        assert setting.reason.en in text
        assert f"source: {setting.source}" in text
    for recipe in plan.recipes:
        assert all(line in text for line in recipe.lines)
    assert "{" not in text.replace(plan.command(), "").replace(
        value(plan, "--compilation-config") or "", ""
    ).replace(value(plan, "--additional-config") or "", "")


def test_sources_are_public(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-32B"), "a2", nodes=2))
    for setting in (*plan.flags, *plan.environment, *plan.defaults):
        assert setting.source
        assert "/work" not in setting.source


def test_the_chinese_text_is_chinese(model: Model) -> None:
    for more in ({"cards": 4}, {"tp": 1}):
        plan = make_plan(PlanRequest(model("Qwen3-32B"), "310p", **more))  # type: ignore[arg-type]
        text = rendered(plan, "zh")
        for said in (*plan.notes, *plan.advice, plan.graphs.reason):
            assert said.zh in text
            assert said.en not in text
    assert "单卡显存" in text
    assert "无法部署" in text


def test_the_json(model: Model) -> None:
    plan = make_plan(PlanRequest(model("Qwen3-32B"), "310p", cards=4))
    content = json.loads(json.dumps(plan.to_json()))
    assert (content["schema_version"], content["command"]) == (1, "plan")
    memory = content["memory"]
    assert {"card_bytes", "usable_bytes", "free_bytes", "parts"} == memory.keys()
    for part in memory["parts"]:
        assert part.keys() == {"id", "title", "bytes", "formula"}
        assert part["title"].keys() == part["formula"].keys() == {"en", "zh"}
    total = sum(part["bytes"] for part in memory["parts"])
    assert memory["free_bytes"] == memory["card_bytes"] - total
    assert content["commands"] == [plan.command()]


def bringup(*arguments: str) -> "subprocess.CompletedProcess[str]":
    code = "from vllm_ascend_bringup.tools.cli import main; main()"
    return subprocess.run([sys.executable, "-c", code, "plan", *arguments], capture_output=True,
                          text=True, check=False)  # fmt: skip


def test_the_command(model: Model, tmp_path: Path) -> None:
    folder = str(model("Qwen3-8B"))
    found = bringup(folder, "--device", "a2", "--json", "--", "--port", "8001")
    assert found.returncode == 0
    assert json.loads(found.stdout)["commands"][0].endswith("--port 8001")
    script = bringup(folder, "--device", "a2", "--script", "--lang", "zh")
    assert script.stdout.startswith("#!/usr/bin/env bash\n")
    too_large = bringup(str(model("Qwen3-32B")), "--device", "310p", "--tp", "1")
    assert too_large.returncode == 13
    assert "does not fit" in too_large.stdout
    wrong = bringup(folder, "--device", "a2", "--tp", "3", "--lang", "zh")
    assert wrong.returncode == 13
    assert "张量并行数 3" in wrong.stderr
    assert "Traceback" not in wrong.stderr
    assert bringup(str(tmp_path), "--device", "a2").returncode == 4
    assert bringup(folder, "--device", "950").returncode == 2


def test_a_plan_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan\n"
        f"make_plan(PlanRequest(Path({str(CHECKPOINT)!r}), '310p'))\n"
        "assert not {'torch', 'vllm', 'transformers'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_description_of_floats_only_is_not_quantized(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-8B", num_hidden_layers=1)
    describe(folder, {"model_quant_type": "FLOAT", "model.norm.weight": "FLOAT"})
    assert value(make_plan(PlanRequest(folder, "310p")), "--quantization") == "ascend"


def test_no_weights_at_all(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIGS["Qwen3-8B"])
    with pytest.raises(CheckpointError):
        make_plan(PlanRequest(tmp_path, "a2"))
