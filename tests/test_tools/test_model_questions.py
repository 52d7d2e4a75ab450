# SPDX-License-Identifier: Apache-2.0
"""The facts one asks first: each answer, its opposite, and near misses."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch
from rich.console import Console

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.errors import CheckpointError
from vllm_ascend_bringup.hardware import MLA_GRAPH_HEADS
from vllm_ascend_bringup.model_facts import model_facts
from vllm_ascend_bringup.tools.checkpoint_report import CheckpointReport, report_checkpoint
from vllm_ascend_bringup.tools.model_questions import (
    MTP_LACKING,
    MTP_READY,
    MTP_UNKNOWN,
    MTP_UNSUPPORTED,
    NOT_APPLICABLE,
    ModelAnswers,
    answer_questions,
)
from vllm_ascend_bringup.tools.rendering import render_checkpoint
from vllm_ascend_bringup.tools.transformers_source import installed_transformers
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm, installed_vllm

LLAMA = {
    "architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 2,
    "num_attention_heads": 8, "num_key_value_heads": 8, "hidden_size": 64,
    "max_position_embeddings": 4096,
}  # fmt: skip
DEEPSEEK = {
    **LLAMA, "architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3",
    "kv_lora_rank": 16, "num_attention_heads": 128, "n_routed_experts": 8,
}  # fmt: skip
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345678\n"
LAYERS = ["model.layers.0.w", "model.layers.1.w"]


def ask(config: dict[str, Any], *names: str, tokenizer: object = None) -> ModelAnswers:
    """Answers about a model of these tensors."""
    settings = {"model_max_length": tokenizer} if tokenizer else {}
    return answer_questions(
        model_facts(config), names, settings, installed_vllm(), (1, 2, 4, 8, 16)
    )


def write(folder: Path, config: dict[str, Any], *names: str) -> Path:
    """A checkpoint of these tensors, one bfloat16 number each."""
    tensors = {name: torch.ones(1, dtype=torch.bfloat16) for name in names or ("w",)}
    return testkit.write_checkpoint(folder, tensors, config)


def text_of(report: CheckpointReport) -> str:
    console = Console(width=100)
    with console.capture() as capture:
        render_checkpoint(report, console)
    return capture.get()


def problems_of(report: CheckpointReport) -> str:
    return "\n".join(f"{problem.severity} {problem.text}" for problem in report.problems)


@pytest.mark.parametrize(
    ("config", "names", "state"),
    [
        ({**DEEPSEEK, "num_nextn_predict_layers": 1}, ["model.layers.2.w"], MTP_READY),
        ({**DEEPSEEK, "num_nextn_predict_layers": 1}, [], MTP_LACKING),
        ({**LLAMA, "num_nextn_predict_layers": 1}, ["model.layers.2.w"], MTP_UNSUPPORTED),
        ({**LLAMA, "num_nextn_predict_layers": 1}, [], MTP_LACKING),
        (LLAMA, [], NOT_APPLICABLE),
        ({**LLAMA, "num_nextn_predict_layers": 0}, [], NOT_APPLICABLE),
        # The config may be silent, as Qwen3-Next's is, or shortened without meaning MTP.
        ({**LLAMA, "model_type": "qwen3_next"}, ["mtp.fc.weight"], MTP_READY),
        ({**LLAMA, "model_type": "deepseek_v41"}, ["mtp.0.w"], MTP_UNSUPPORTED),
        ({**LLAMA, "model_type": "exaone4_5_x"}, ["mtp.layers.0.w"], MTP_READY),
        ({**LLAMA, "architectures": ["MiMoForCausalLM"]}, ["model.mtp_layers.0.w"], MTP_READY),
        (LLAMA, ["model.nextn_predict.0.w"], MTP_UNSUPPORTED),
        (LLAMA, ["model.layers.2.w"], NOT_APPLICABLE),
        (LLAMA, ["model.layers.2.eh_proj.weight"], MTP_UNSUPPORTED),
        (LLAMA, ["visual.layers.40.eh_proj.weight", "model.smtp.w", "model.mtp"], NOT_APPLICABLE),
        ({**LLAMA, "num_nextn_predict_layers": 1}, ["vision.layers.9.w"], MTP_LACKING),
        ({**LLAMA, "model_type": "qwen3_5", "text_config": {"mtp_num_hidden_layers": 1}}, [],
         MTP_LACKING),
        ({**LLAMA, "text_config": {"num_mtp_modules": 3}}, [], MTP_LACKING),
        ({**LLAMA, "mtp_config": {"num_nextn_predict_layers": 3}}, [], MTP_LACKING),
    ],
)  # fmt: skip
def test_mtp(config: dict[str, Any], names: list[str], state: str) -> None:
    assert ask(config, *LAYERS, *names).mtp.state == state


def test_mtp_without_vllm_is_not_judged(tmp_path: Path) -> None:
    model = model_facts({**DEEPSEEK, "num_nextn_predict_layers": 2})
    nowhere = InstalledVllm(None, frozenset())
    mtp = answer_questions(model, ["model.layers.2.w"], {}, nowhere, (1,)).mtp
    assert (mtp.state, mtp.layers, mtp.tensors) == (MTP_UNKNOWN, 2, 1)
    # A vLLM whose source says nothing about it is not judged either.
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "speculative.py").write_text("")
    assert InstalledVllm("1", frozenset(), {}, tmp_path).has_mtp("A", "a") is None


@pytest.mark.parametrize(
    ("architecture", "model_type", "expected"),
    [
        ("DeepseekV3ForCausalLM", "deepseek_v3", True),
        ("Glm4MoeForCausalLM", "glm4_moe", True),
        ("Step3p5ForCausalLM", "step3p5", True),
        ("Qwen3MoeForCausalLM", "qwen3_moe", False),
        ("MistralLarge3ForCausalLM", "mistral", False),
    ],
)
def test_mtp_classes_are_those_of_vllm(architecture: str, model_type: str, expected: bool) -> None:
    assert installed_vllm().has_mtp(architecture, model_type) is expected
    if "MoeForCausalLM" in architecture or "V3" in architecture:
        from transformers import PretrainedConfig
        from vllm.config.speculative import SpeculativeConfig

        config = PretrainedConfig(architectures=[architecture], num_nextn_predict_layers=1)
        config.model_type = model_type
        changed = SpeculativeConfig.hf_config_override(config).architectures[0]
        assert ("MTP" in changed) is expected


@pytest.mark.parametrize(
    "key", ["n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"]
)
def test_experts_decide_what_applies(key: str) -> None:
    moe, dense = ask({**LLAMA, key: 8}), ask({**LLAMA, key: 0})
    assert (moe.moe, moe.expert_parallelism, moe.flashcomm1) == (True, True, True)
    assert (dense.moe, dense.expert_parallelism, dense.flashcomm1) == (False, False, False)


@pytest.mark.parametrize(
    ("heads", "clean"), [(128, (1, 2, 4)), (64, (1, 2)), (16, ()), (96, ()), (192, ())]
)
def test_tp_sizes_at_which_mla_runs_in_graph_mode(heads: int, clean: tuple[int, ...]) -> None:
    answers = ask({**DEEPSEEK, "num_attention_heads": heads})
    # 96 and 192 heads: 32 and 64 of them are reached only by sizes that nobody uses.
    expected = tuple(tp for tp in (1, 2, 4, 8, 16) if heads / tp in MLA_GRAPH_HEADS)
    assert answers.mla_graph_tp == clean == expected


def test_what_is_no_mla_has_no_such_sizes() -> None:
    assert ask(LLAMA).mla_graph_tp is None


@pytest.mark.parametrize(
    ("rope", "kind", "factor", "original", "default"),
    [
        ({"rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 512}},
         "yarn", 40.0, 512, 4096),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "dynamic", 2.0, None, 8192),
        ({"rope_scaling": {"type": "linear", "factor": 4}}, "linear", 4.0, None, 16384),
        ({"rope_parameters": {"rope_type": "llama3", "factor": 8.0, "rope_theta": 1e4,
                              "original_max_position_embeddings": 8192}},
         "llama3", 8.0, 8192, 4096),
        ({"rope_scaling": {"type": "longrope", "short_factor": [1]},
          "original_max_position_embeddings": 1024}, "longrope", None, 1024, 1024),
        ({"rope_scaling": {"type": "mrope", "mrope_section": [8, 12, 12]}}, "mrope", None, None,
         4096),
        ({"rope_parameters": {"rope_type": "default", "mrope_section": [8, 12, 12]}}, "mrope",
         None, None, 4096),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}, "default", None, None,
         4096),
        ({"rope_parameters": {"sliding_attention": {"rope_type": "default"},
                              "full_attention": {"rope_type": "linear", "factor": 2.0}}},
         "linear", 2.0, None, 8192),
        ({"text_config": {"rope_scaling": {"type": "linear", "factor": 2}}}, "linear", 2.0, None,
         8192),
        ({"model_type": "gemma3", "rope_scaling": {"type": "linear", "factor": 8}}, "linear", 8.0,
         None, 4096),
    ],
)  # fmt: skip
def test_rope_and_the_length_that_vllm_takes(
    rope: dict[str, Any], kind: str, factor: float | None, original: int | None, default: int
) -> None:
    config = {**LLAMA, **rope}
    found = model_facts(config).rope
    assert found is not None
    assert (found.type, found.factor, found.original_length) == (kind, factor, original)
    context = ask(config).context
    assert (context.config, context.default) == (4096, default)


@pytest.mark.parametrize("rope", [None, "yarn", [], {}, 4])
def test_rope_that_is_no_object_is_none(rope: object) -> None:
    assert model_facts({**LLAMA, "rope_scaling": rope}).rope is None


@pytest.mark.parametrize("factor", ["40", True, -1, 0, 10**400, math.nan, math.inf, [4]])
def test_odd_rope_values_are_left_out(factor: object) -> None:
    rope = {"rope_type": "yarn", "factor": factor, "mrope_section": 3}
    found = model_facts({**LLAMA, "rope_scaling": rope}).rope
    assert found is not None
    assert (found.factor, found.sections) == (None, ())


@pytest.mark.parametrize(
    ("tokenizer", "default"), [(1024, 1024), (1e30, 4096), (10**30, 4096), ("9", 4096), (-1, 4096)]
)
def test_limit_of_the_tokenizer(tokenizer: object, default: int) -> None:
    assert ask(LLAMA, tokenizer=tokenizer).context.default == default


@pytest.mark.parametrize(
    ("tied", "head", "text"),
    [
        (True, "lm_head.weight", "ties the embeddings, but the checkpoint has an lm_head"),
        (False, None, "does not tie the embeddings, but the checkpoint has no lm_head"),
        (False, "model.layers.1.lm_head_norm.weight", "no lm_head"),
        (False, "mtp.lm_head.weight", "no lm_head"),
        (True, None, None),
        (False, "lm_head.weight", None),
        (False, "language_model.lm_head.weight", None),
        (False, "output.weight", None),
        (False, "lm_head.qweight", None),
        (None, "lm_head.weight", None),
        (None, None, None),
    ],
)
def test_tied_embeddings(tmp_path: Path, tied: bool | None, head: str | None, text: str) -> None:
    config = LLAMA if tied is None else {**LLAMA, "tie_word_embeddings": tied}
    report = report_checkpoint(write(tmp_path, config, *LAYERS, *([head] if head else [])))
    found = problems_of(report)
    assert text in found if text else found == ""
    assert report.exit_code == 0


def test_config_that_contradicts_itself_about_tying_is_not_judged(tmp_path: Path) -> None:
    config = {**LLAMA, "tie_word_embeddings": True, "text_config": {"tie_word_embeddings": False}}
    report = report_checkpoint(write(tmp_path, config, *LAYERS, "lm_head.weight"))
    assert report.model.tied is None
    assert report.problems == ()


def test_model_without_a_head_needs_none(tmp_path: Path) -> None:
    config = {**LLAMA, "architectures": ["LlamaModel"], "tie_word_embeddings": False}
    assert "lm_head" not in problems_of(report_checkpoint(write(tmp_path, config)))


def test_encoders_and_their_processor(tmp_path: Path) -> None:
    config = {
        **LLAMA, "architectures": ["Qwen2_5_VLForConditionalGeneration"], "vision_config": {},
        "audio_config": {"d": 1}, "vision_start_token_id": 1, "quantization_config": {},
        "thinker_config": {"vision_config": {}},
    }  # fmt: skip
    report = report_checkpoint(write(tmp_path, config))
    parts = ("audio_config", "vision_config", "thinker_config.vision_config")
    assert report.processors.parts == parts
    assert report.processors.missing == (
        "preprocessor_config.json or processor_config.json", "chat template"
    )  # fmt: skip
    assert "processor lacks:        preprocessor_config.json or" in text_of(report)

    settings = {"image_processor_type": "Qwen2VLImageProcessorFast",
                "processor_class": "Qwen2_5_VLProcessor"}  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(settings))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ x }}"}))
    report = report_checkpoint(tmp_path)
    assert report.processors.missing == ()
    assert report.processors.files == ("preprocessor_config.json", "tokenizer_config.json")
    assert report.processors.classes == ("Qwen2_5_VLProcessor", "Qwen2VLImageProcessorFast")
    assert report.processors.packages == {"Qwen2VLImageProcessorFast": ("torch", "torchvision")}
    assert "torch, torchvision (Qwen2VLImageProcessorFast)" in text_of(report)


def test_packages_are_those_that_transformers_declares(tmp_path: Path) -> None:
    folder = write(tmp_path, {**LLAMA, "audio_config": {"d": 1}})
    settings = {
        "feature_extractor": {"feature_extractor_type": "ClapFeatureExtractor"},
        "image_processor": {"image_processor_type": "NoSuchProcessor"},
        "video_processor": [], "processor_class": 3,
    }  # fmt: skip
    (folder / "processor_config.json").write_text(json.dumps(settings))
    processors = report_checkpoint(folder).processors
    assert processors.classes == ("NoSuchProcessor", "ClapFeatureExtractor")
    assert processors.packages == {"ClapFeatureExtractor": ("torch",)}
    # The declaration is there: transformers says so itself.
    transformers = installed_transformers()
    assert transformers is not None
    assert transformers.find_processor("ClapFeatureExtractor") is not None
    assert transformers.find_processor("LlamaForCausalLM") is None


def test_text_shows_only_what_applies(tmp_path: Path) -> None:
    text = text_of(report_checkpoint(write(tmp_path / "dense", LLAMA)))
    for label in ("MTP", "MLA", "MoE", "encoders", "processor", "remote code", "embeddings"):
        assert label not in text
    assert "context:                4096 tokens\n" in text
    assert "tokenizer:              no files of one here" in text
    rope = {"type": "linear", "factor": 2, "original_max_position_embeddings": 2048}
    config = {**DEEPSEEK, "num_nextn_predict_layers": 1, "rope_scaling": rope}
    folder = write(tmp_path / "moe", config, *LAYERS, "model.layers.2.w")
    (folder / "tokenizer.json").write_text("{}")
    (folder / "tokenizer_config.json").write_text('{"model_max_length": 3000}')
    text = text_of(report_checkpoint(folder))
    for line in (
        "MLA in graph mode:      TP 1, 2, 4 (32, 64 or 128 heads each)\n",
        "for MoE:                expert parallelism and flashcomm1 apply\n",
        "MTP layers:             supported and present (1 in config.json, 1 tensors)\n",
        "context:                4096 tokens, vLLM takes 6000, tokenizer_config.json says 3000, "
        "rope linear x 2 over 2048\n",
    ):
        assert line in text
    assert "tokenizer:" not in text


def two_shards(folder: Path) -> list[str]:
    tensors = {name: torch.ones(1, dtype=torch.bfloat16) for name in "abc"}
    testkit.write_checkpoint(folder, tensors, LLAMA, shards=["a", "b", "c"])
    return [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]


def test_every_file_that_is_not_there_in_full_is_in_one_error(tmp_path: Path) -> None:
    first, second, third = two_shards(tmp_path)
    (tmp_path / first).unlink()
    (tmp_path / second).write_text(POINTER)
    (tmp_path / third).unlink()
    (tmp_path / "config.json").write_text(POINTER)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)
    error = caught.value
    assert f"the shards {first}, {third}, which are missing" in error.found
    assert f"config.json, {second} are Git LFS pointers" in error.found
    assert error.fix == (
        f"download {first}, {third}; run `git lfs pull` or download config.json, {second}"
    )
    (tmp_path / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"config\.json is missing"):
        read_checkpoint(tmp_path)


def test_index_that_is_a_pointer_does_not_hide_its_shards(tmp_path: Path) -> None:
    first, _, _ = two_shards(tmp_path)
    (tmp_path / first).write_text(POINTER)
    (tmp_path / "model.safetensors.index.json").write_text(POINTER)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(tmp_path)
    assert f"index.json, {first} are Git LFS pointers" in caught.value.found


def test_other_files_that_are_pointers_are_an_error_of_inspect(tmp_path: Path) -> None:
    folder = write(tmp_path, LLAMA)
    (folder / "tokenizer.json").write_text(POINTER)
    (folder / "figure.png").write_text(POINTER)
    (folder / "vocab.txt").write_text("version https://git-lfs.github.com/other")
    report = report_checkpoint(folder)
    assert report.exit_code == CheckpointError.exit_code
    assert "error tokenizer.json: Git LFS pointers" in problems_of(report)
    assert "figure.png" not in problems_of(report)
    assert report.tokenizer_files == ("tokenizer.json", "vocab.txt")
