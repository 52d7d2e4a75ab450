# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's own Python on the emulated torch_npu, in the environment of `make test-ascend`."""

import json
import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.tools.demo import CHECKPOINT

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
