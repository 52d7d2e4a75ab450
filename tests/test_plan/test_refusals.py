# SPDX-License-Identifier: Apache-2.0
"""What there is no plan for: one clear error, in both languages."""

from pathlib import Path
from typing import Any

import pytest
from planned_models import CONFIGS, PlannedModel, value, write_by_ranks, write_config, write_model

from vllm_ascend_bringup.errors import CheckpointError, PlanError
from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.base import Layout

GIB = 1 << 30


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
        ("Qwen3-8B", "310p", {"decode_cp": 2}, "context parallelism on Ascend 310P"),
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
def test_refusals(
    name: str, device: str, more: dict[str, Any], found: str, planned_model: PlannedModel
) -> None:
    with pytest.raises(PlanError) as error:
        make_plan(PlanRequest(planned_model(name), device, **more))
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


def test_no_weights_at_all(tmp_path: Path) -> None:
    write_config(tmp_path, CONFIGS["Qwen3-8B"])
    with pytest.raises(CheckpointError):
        make_plan(PlanRequest(tmp_path, "a2"))
