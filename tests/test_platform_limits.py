# SPDX-License-Identifier: Apache-2.0
"""What the reference platform refuses, and what it sets, as the chip and vllm-ascend do."""

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from vllm_ascend_bringup import plugin
from vllm_ascend_bringup.errors import PlatformError
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

os.environ.update(CPU_ENVIRONMENT)


@pytest.fixture
def platforms() -> dict[str, Any]:
    from vllm_ascend_bringup.reference.platform import Reference310P, ReferenceA2, ReferenceA3

    return {"310p": Reference310P, "a2": ReferenceA2, "a3": ReferenceA3}


@pytest.mark.parametrize("chip", ["310p", "a2", "a3"])
def test_the_setting_names_a_class_of_each_chip(
    chip: str, platforms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_PLATFORM", f"reference-{chip}")
    kind = platforms[chip]
    assert plugin.platform() == f"{kind.__module__}.{kind.__qualname__}"
    assert (kind.chip, kind.device_name) == (CHIPS[chip], f"reference-{chip}")
    assert [str(dtype) for dtype in kind().supported_dtypes] == [
        f"torch.{name}" for name in CHIPS[chip].dtypes
    ]
    assert kind.ray_device_key == "NPU"
    with pytest.raises(ValueError, match=f"gptq quantization .* reference-{chip}"):
        kind.verify_quantization("gptq")
    kind.verify_quantization("compressed-tensors")


def asked(head_size: int = 64, **changed: bool) -> Any:
    """What vLLM asks a platform for attention with."""
    return SimpleNamespace(
        **{"use_mla": False, "use_sparse": False, **changed, "head_size": head_size}
    )


@pytest.mark.parametrize(
    ("chip", "config", "backend"),
    [
        ("310p", asked(128), "ReferenceNZBackend128"),
        ("310p", asked(144), "ReferenceNZBackend64"),
        ("310p", asked(256), "ReferenceNZBackend64"),
        ("a2", asked(256), "ReferenceBackend"),
        ("a2", asked(576, use_mla=True), "ReferenceMLABackend"),
        ("a3", asked(100), "ReferenceBackend"),
    ],
)
def test_attention(chip: str, config: Any, backend: str, platforms: dict[str, Any]) -> None:
    named = platforms[chip].get_attn_backend_cls(None, config)
    module, _, name = named.rpartition(".")
    assert name == backend
    assert hasattr(__import__(module, fromlist=[name]), name)


@pytest.mark.parametrize(
    ("chip", "config", "found"),
    [
        ("310p", asked(576, use_mla=True), "MLA on reference-310p"),
        ("a2", asked(576, use_mla=True, use_sparse=True), "sparse attention on reference-a2"),
        ("310p", asked(72), "head size 72 on reference-310p. Expected: a multiple of 16 up to 256"),
        ("310p", asked(272), "head size 272 on reference-310p"),
    ],
)
def test_attention_that_the_chip_does_not_have(
    chip: str, config: Any, found: str, platforms: dict[str, Any]
) -> None:
    with pytest.raises(PlatformError, match=found):
        platforms[chip].get_attn_backend_cls(None, config)


@pytest.fixture
def config() -> Any:
    """vLLM's, of the demo model, before a platform has looked at it."""
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(
        model=str(CHECKPOINT), enforce_eager=True, max_model_len=512, dtype="float16"
    ).create_engine_config()


def test_settings(config: Any, platforms: dict[str, Any]) -> None:
    config.cache_config.block_size = 32
    config.cache_config.user_specified_block_size = True
    platforms["310p"].check_and_update_config(config)
    assert config.cache_config.block_size == 128


@pytest.mark.parametrize(
    ("part", "setting", "value", "found"),
    [
        ("model_config", "dtype", torch.bfloat16, r"torch\.bfloat16 on .*--dtype float16"),
        ("cache_config", "cache_dtype", "fp8", "--kv-cache-dtype fp8 on reference-310p"),
        ("", "kv_transfer_config", object(), "KV transfer on reference-310p"),
    ],
)
def test_settings_that_the_chip_does_not_take(
    part: str, setting: str, value: Any, found: str, config: Any, platforms: dict[str, Any]
) -> None:
    object.__setattr__(getattr(config, part) if part else config, setting, value)
    with pytest.raises(PlatformError, match=found):
        platforms["310p"].check_and_update_config(config)


@pytest.mark.parametrize(
    ("setting", "plugins", "message"),
    [
        ("reference-a9", None, "one of auto, reference-a2, reference-a3, reference-310p"),
        # vLLM does not ask this plugin for a platform, and runs on another.
        ("reference-a2", "another", "but vLLM runs on CpuPlatform. Expected: a CPU build of vLLM"),
    ],
)
def test_a_platform_that_vllm_does_not_run_on(
    setting: str, plugins: str | None, message: str
) -> None:
    environment = {**os.environ, "VLLM_ASCEND_BRINGUP_PLATFORM": setting}
    if plugins:
        environment["VLLM_PLUGINS"] = plugins
    done = subprocess.run(
        [sys.executable, "-c", "from vllm_ascend_bringup.plugin import register; register()"],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode
    assert message in done.stderr


def test_a_layer_that_shares_a_cache_has_no_keys_of_its_own() -> None:
    from vllm_ascend_bringup.attention.masks import LegacyMasks
    from vllm_ascend_bringup.attention.step import Step
    from vllm_ascend_bringup.reference.attention import ReferenceNZImpl

    fresh = Step([3, 5], [3, 5], True, LegacyMasks(torch.float16, torch.device("cpu"), 8))
    layer = object.__new__(ReferenceNZImpl)
    layer.attn_type = "decoder"
    for target, whether in ((None, True), ("model.layers.0", False)):
        layer.kv_sharing_target_layer_name = target
        assert layer.is_prompt(fresh) is whether


def test_hybrid_models_are_refused(
    config: Any, platforms: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(config.model_config), "is_hybrid", property(lambda _: True))
    with pytest.raises(PlatformError, match="a hybrid model on reference-a2"):
        platforms["a2"].check_and_update_config(config)
