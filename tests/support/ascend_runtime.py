# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's own Python on the emulated torch_npu, in the environment of `make test-ascend`."""

import json
import os
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.tools.demo import CHECKPOINT

InstallChip = Callable[[str], Any]
_TORCH_NPU = find_spec("torch_npu")
HERE = _TORCH_NPU is not None and _TORCH_NPU.origin == emulation.__name__
MARKS = [
    pytest.mark.skipif(
        not HERE, reason="no vllm-ascend on an emulated torch_npu; `make test-ascend` installs it"
    )
]
if HERE:
    # Its platform without its models: one of those needs torchvision.
    os.environ["VLLM_PLUGINS"] = "ascend"
    import vllm_ascend.ops  # noqa: F401 (before the modules of its 310P, which import each other)


@pytest.fixture(scope="session")
def engine_config(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """vLLM's config of a small Qwen3 in float16, completed by vllm-ascend's platform for a 310P."""
    from vllm.engine.arg_utils import EngineArgs

    folder = tmp_path_factory.mktemp("model")
    content = json.loads((CHECKPOINT / "config.json").read_text())
    del content["quantization_config"]
    (folder / "config.json").write_text(json.dumps(content))
    arguments = EngineArgs(
        model=str(folder), skip_tokenizer_init=True, enforce_eager=True, max_model_len=400,
        dtype="float16",
    )  # fmt: skip
    return arguments.create_engine_config()


@pytest.fixture
def ascend_config(engine_config: Any) -> Iterator[Any]:
    """The same, as what vLLM calls the current one."""
    from vllm.config import set_current_vllm_config

    with set_current_vllm_config(engine_config):
        yield engine_config


@pytest.fixture
def own_masks() -> Iterator[None]:
    """vllm-ascend keeps masks on a class, of whatever length came first; none are left."""
    yield
    from vllm_ascend._310p.attention.attention_mask import AttentionMaskBuilder310

    AttentionMaskBuilder310.chunked_prefill_attn_mask = None
    AttentionMaskBuilder310.compressed_chunked_prefill_attn_mask = None


@pytest.fixture
def install_chip(monkeypatch: pytest.MonkeyPatch) -> InstallChip:
    """``emulation.install`` for a chip, with what vllm-ascend's modules keep about the chip it was
    built for as they would have it in a build for this one.
    """

    def install(chip: str) -> Any:
        torch_npu = emulation.install(chip=chip)
        from vllm_ascend import utils
        from vllm_ascend.attention import attention_v1
        from vllm_ascend.device import device_op

        kind = utils.AscendDeviceType[CHIPS[chip].device_type]
        monkeypatch.setattr(utils, "_ascend_device_type", kind)
        utils.check_ascend_device_type()
        monkeypatch.setattr(attention_v1, "DeviceOperator", device_op.get_device_adaptor())
        return torch_npu

    return install
