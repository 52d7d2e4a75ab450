# SPDX-License-Identifier: Apache-2.0
"""Planned flags through vLLM's own parser into vllm-ascend's own checks: none is refused, and what
comes out is what the plan said.
"""

from pathlib import Path
from typing import Any

import pytest
from ascend_runtime import MARKS, InstallChip
from planned_models import write_by_ranks, write_model

from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.base import Plan
from vllm_ascend_bringup.tools.plan.memory import BATCHED_TOKENS

pytestmark = MARKS

WORKERS = {
    "a2": "vllm_ascend.worker.worker.NPUWorker", "a3": "vllm_ascend.worker.worker.NPUWorker",
    "310p": "vllm_ascend._310p.worker_310p.NPUWorker310",
}  # fmt: skip
CASES = [
    pytest.param(device, name, quantized, more, id=f"{device}-{name}-{number}")
    for number, (device, name, quantized, more) in enumerate((
        *((device, name, None, {}) for device in WORKERS
          for name in ("Qwen3-8B", "Qwen3-32B", "Qwen3-30B-A3B")),
        *((device, "Qwen3-32B", "W8A8_DYNAMIC", {"cards": 4}) for device in WORKERS),
        ("a2", "Qwen3-8B", None, {"concurrency": 20}),
        ("a2", "Qwen3-8B", None, {"concurrency": 1}),
        ("a2", "Qwen3-8B", None, {"stream_quota": 16, "concurrency": 256}),
        ("a2", "Qwen3-8B", None, {"stream_quota": 1}),
        ("a2", "Qwen3-8B", None, {"xlite": True}),
        ("310p", "Qwen3-8B", None, {"concurrency": 20}),
        ("310p", "Qwen3-8B", "W8A8S", {}),
        ("310p", "Qwen3-8B", "W8A8SC", {}),
        ("310p", "Qwen3-32B", "W8A8SC", {"max_model_len": 20480}),
        ("a2", "DeepSeek-V2-Lite", None, {}),
        ("a2", "DeepSeek-V2-Lite", None, {"tp": 2, "decode_cp": 2}),
        ("a2", "Qwen3-30B-A3B", None, {"cards": 8}),
        ("a2", "Qwen3-32B", None, {"nodes": 2}),
        ("a3", "Qwen3-30B-A3B", "W8A8_DYNAMIC", {"cards": 16}),
    ))
]  # fmt: skip


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def written(folder: Path, name: str, quantized: str | None) -> Path:
    path = folder / f"{name}-{quantized}"
    if path.exists():
        return path
    if quantized == "W8A8SC":
        return write_by_ranks(path, name, 4 if name == "Qwen3-32B" else 1, 7 << 30)
    return write_model(path, name, dtype="I8" if quantized else "BF16", quantized=quantized)


def configured(plan: Plan) -> Any:
    """As `vllm serve` makes it from the command's first words on, tokenizer aside."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform
    from vllm.usage.usage_lib import UsageContext
    from vllm.utils.argparse_utils import FlexibleArgumentParser

    parser = FlexibleArgumentParser()
    current_platform.pre_register_and_update(parser)
    parser = AsyncEngineArgs.add_cli_args(parser)
    found = parser.parse_args(list(plan.commands[0][3:]))
    arguments = AsyncEngineArgs.from_cli_args(found)
    arguments.model, arguments.skip_tokenizer_init = plan.model, True
    return arguments.create_engine_config(UsageContext.OPENAI_API_SERVER)


@pytest.mark.parametrize(("device", "name", "quantized", "more"), CASES)
def test_vllm_ascend_takes_the_plan(
    device: str, name: str, quantized: str | None, more: dict[str, Any], models: Path,
    install_chip: InstallChip, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    install_chip(device)
    plan = make_plan(PlanRequest(written(models, name, quantized), device, **more))
    for setting in plan.environment:
        monkeypatch.setenv(setting.name, setting.value or "")
    config = configured(plan)
    compilation, parallel = config.compilation_config, config.parallel_config
    assert compilation.cudagraph_mode.name == plan.graphs.mode
    assert tuple(compilation.cudagraph_capture_sizes) == plan.graphs.sizes
    assert parallel.tensor_parallel_size == plan.layout.tp
    assert parallel.enable_expert_parallel == plan.layout.expert_parallel
    worker = "vllm_ascend.xlite.xlite_worker.XliteWorker" if more.get("xlite") else WORKERS[device]
    assert parallel.worker_cls == worker
    assert config.model_config.max_model_len == plan.max_model_len
    assert config.model_config.quantization == ("ascend" if quantized else None)
    assert config.scheduler_config.max_num_seqs == plan.concurrency
    # What the plan left out, and counted on.
    assert config.scheduler_config.max_num_batched_tokens == BATCHED_TOKENS
    assert config.scheduler_config.enable_chunked_prefill
    assert config.cache_config.block_size == 128
    assert str(config.model_config.dtype).endswith("float16" if device == "310p" else "bfloat16")
