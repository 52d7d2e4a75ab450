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
    assert config.quant_config.table.groups[0][1].block == (128, 128)


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
    assert set(model.hf_config.quantization_config) == {"quant_method", "source"}


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
