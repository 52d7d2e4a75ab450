# SPDX-License-Identifier: Apache-2.0
"""vLLM's own parser takes every command, and the script runs exactly what is printed."""

import subprocess
from pathlib import Path
from typing import Any

import pytest
from planned_models import PlannedModel, environment

from vllm_ascend_bringup.hardware import DEPLOYMENTS
from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan
from vllm_ascend_bringup.tools.plan.script import shell_script

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
    name: str,
    quantized: str | None,
    device: str,
    more: dict[str, Any],
    planned_model: PlannedModel,
    parser: Any,
) -> None:
    plan = make_plan(PlanRequest(planned_model(name, quantized), device, **more))
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
    name: str, quantized: str | None, device: str, more: dict[str, Any],
    planned_model: PlannedModel, tmp_path: Path,
) -> None:  # fmt: skip
    plan = make_plan(PlanRequest(planned_model(name, quantized), device, **more))
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
                   for w in plan.commands[node]]  # fmt: skip
        assert ["vllm", *words] == printed
    if plan.layout.nodes > 1:
        lacking = subprocess.run(["bash", str(script), "0"], env=path, capture_output=True,
                                 text=True, check=False)  # fmt: skip
        assert lacking.returncode
        assert "LOCAL_IP" in lacking.stderr
