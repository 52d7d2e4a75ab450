# SPDX-License-Identifier: Apache-2.0
"""Which checkpoints the quantization method claims, and that every view of the settings follows.

Real vLLM configs, no engine.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT


@pytest.fixture(autouse=True)
def cpu_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in CPU_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A copy of the demo checkpoint that a test may change."""
    return Path(shutil.copytree(CHECKPOINT, tmp_path / "checkpoint"))


def engine_config(model: Path, **arguments: Any) -> Any:
    """vLLM's config, made the way `vllm serve` makes it; this loads the plugin."""
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(
        model=str(model), enforce_eager=True, max_model_len=512, **arguments
    ).create_engine_config()


def edit(checkpoint: Path, **changes: Any) -> None:
    """Change keys of config.json; None removes one."""
    file = checkpoint / "config.json"
    config = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


@pytest.mark.parametrize("given", [None, "fp8", "ascend_dequant"])
def test_every_view_of_the_settings_says_our_method(checkpoint: Path, given: str | None) -> None:
    from vllm_ascend_bringup.quantization import remaining_settings

    config = engine_config(checkpoint, quantization=given)
    model = config.model_config
    assert model.quantization == "ascend_dequant"
    assert model.hf_config.quantization_config["quant_method"] == "ascend_dequant"
    assert model.model_arch_config.quantization_config["quant_method"] == "ascend_dequant"
    assert remaining_settings(model) == []
    assert config.quant_config.quant_description == {}
    assert [scheme.block for scheme in config.quant_config.table.default] == [(128, 128)]


def test_a_view_that_was_not_rewritten_is_found(checkpoint: Path) -> None:
    from vllm_ascend_bringup.quantization import remaining_settings

    model = engine_config(checkpoint).model_config
    model.hf_config.quantization_config = {"quant_method": "fp8"}
    assert "hf_config.quantization_config" in remaining_settings(model)


def test_kv_cache_keys_of_the_settings_are_hidden(checkpoint: Path) -> None:
    # vLLM would switch the KV cache to fp8 for them.
    settings = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    edit(checkpoint, quantization_config={**settings, "kv_cache_scheme": {"num_bits": 8}})
    model = engine_config(checkpoint).model_config
    assert set(model.hf_config.quantization_config) == {"quant_method", "source", "facts"}


def test_compression_config_is_claimed_too(checkpoint: Path) -> None:
    settings = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    edit(checkpoint, quantization_config=None, compression_config=settings)
    assert engine_config(checkpoint).model_config.quantization == "ascend_dequant"


def test_another_method_that_the_user_names_is_respected(checkpoint: Path) -> None:
    with pytest.raises(ValueError, match="does not match"):
        engine_config(checkpoint, quantization="awq")


def test_modelslim_checkpoint_is_left_alone(checkpoint: Path) -> None:
    (checkpoint / "quant_model_description.json").write_text("{}")
    assert engine_config(checkpoint).model_config.quantization == "fp8"


def test_settings_we_do_not_decode_are_left_alone(checkpoint: Path) -> None:
    edit(checkpoint, quantization_config={"quant_method": "gptq", "bits": 4, "group_size": 128,
                                          "desc_act": False, "sym": True})  # fmt: skip
    from vllm_ascend_bringup.quantization import AscendDequantConfig

    settings = json.loads((checkpoint / "config.json").read_text())["quantization_config"]
    assert AscendDequantConfig.override_quantization_method(dict(settings), None) is None


def test_broken_checkpoint_is_refused_before_any_process_starts(checkpoint: Path) -> None:
    (checkpoint / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(BringupError, match=r"model-00002-of-00002\.safetensors, which is missing"):
        engine_config(checkpoint)


def test_loader_that_would_bypass_ours_is_refused(checkpoint: Path) -> None:
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.layers.linear import ReplicatedLinear

    config = engine_config(checkpoint, load_format="fastsafetensors")
    with set_current_vllm_config(config), pytest.raises(BringupError, match="--load-format auto"):
        config.quant_config.get_quant_method(ReplicatedLinear.__new__(ReplicatedLinear), "x")


@pytest.mark.parametrize(
    ("dequant", "chip", "verdict", "reason"),
    [
        ("auto", None, "decoding", "no known Ascend chip"),
        ("auto", "a2", "decoding", "Atlas A2 does not execute fp8_block"),
        ("auto", "310p", "decoding", "Ascend 310P does not execute fp8_block"),
        ("auto", "950", "left alone", "Ascend 950 executes fp8_block"),
        ("always", "950", "decoding", "VLLM_ASCEND_BRINGUP_DEQUANT=always"),
        ("never", "a2", None, ""),
    ],
)
def test_decision_and_its_reason_are_logged_in_one_line(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, dequant: str, chip: "str | None",
    verdict: "str | None", reason: str,
) -> None:  # fmt: skip
    from transformers import AutoConfig

    from vllm_ascend_bringup import quantization
    from vllm_ascend_bringup.hardware import CHIPS
    from vllm_ascend_bringup.native import Platform

    lines: list[str] = []
    there = Platform(CHIPS[chip] if chip else None, frozenset({"fp8"}), lambda *_: True)
    monkeypatch.setattr(quantization, "probe_platform", lambda: there)
    monkeypatch.setattr(
        quantization._LOGGER, "info_once", lambda text, *values: lines.append(text % values)
    )
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_DEQUANT", dequant)
    config: Any = AutoConfig.from_pretrained(checkpoint)
    settings = dict(config.quantization_config)
    claimed = quantization.AscendDequantConfig.override_quantization_method(settings, None, config)
    assert claimed == ("ascend_dequant" if verdict == "decoding" else None)
    assert (settings["quant_method"] == "ascend_dequant") == (verdict == "decoding")
    if verdict is None:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith(f"fp8 weights: {verdict}, since ")
        assert reason in line


def test_what_is_left_alone_is_logged_with_its_reason(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    from vllm_ascend_bringup import quantization

    lines: list[str] = []
    monkeypatch.setattr(
        quantization._LOGGER, "info_once", lambda text, *values: lines.append(text % values)
    )
    (checkpoint / "quant_model_description.json").write_text("{}")
    config: Any = AutoConfig.from_pretrained(checkpoint)
    for settings in ({"quant_method": "fp8"}, {"quant_method": "gptq"}):
        asked = quantization.AscendDequantConfig.override_quantization_method
        assert asked(settings, None, config) is None
    (line, *_) = lines
    assert line.startswith("quantization left alone: quant_model_description.json")
