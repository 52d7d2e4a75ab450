# SPDX-License-Identifier: Apache-2.0
"""Patched layers of models that no CPU can serve: vLLM's own layers, over gloo ranks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sink_attention
import torch

Found = dict[str, list[Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    """What support/sink_attention.py says of each case."""
    answer = tmp_path_factory.mktemp("sinks") / "answer.json"
    ran = subprocess.run(
        [sys.executable, sink_attention.__file__, str(answer)], capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    read: Found = json.loads(answer.read_text())
    return read


@pytest.mark.engine
@pytest.mark.parametrize(("kv_heads", "ranks"), sink_attention.CASES)
def test_openpangu_over_ranks_is_as_on_one(found: Found, kv_heads: int, ranks: int) -> None:
    (expected,) = found[f"one {kv_heads}"]
    ours = found[f"ours {kv_heads} {ranks}"]
    assert len(ours) == ranks
    for each in ours:
        torch.testing.assert_close(torch.tensor(each), torch.tensor(expected))
    assert float(torch.tensor(expected).std()) > 0.1


@pytest.mark.engine
def test_openpangu_alone_neither_shares_heads_nor_loads_by_name(found: Found) -> None:
    for case in ("alone 1 2", "alone 2 4"):
        assert "KV heads replication is not support yet" in found[case][0]
    assert found["alone 2 2"][0] != found["alone 1 2"][0]
    assert "ValueError: This line should not be reached" in found["named alone"][0]


MOONDREAM = """
import torch
from types import SimpleNamespace
from vllm_ascend_bringup.tools.engines.engine import set_up
set_up()
from vllm.config import VllmConfig, set_current_vllm_config
from vllm.distributed import init_distributed_environment, initialize_model_parallel
from vllm.model_executor.models import moondream3
moondream3.Attention = lambda **_: lambda q, k, v: q
config = SimpleNamespace(dim=256, n_heads=4, n_kv_heads=KV, rope_theta=1e4, max_context=32)
with set_current_vllm_config(VllmConfig()), torch.inference_mode():
    init_distributed_environment(1, 0, "file://MEETING", 0, "gloo")
    initialize_model_parallel(1)
    layer = moondream3.Moondream3Attention(config, 0, prefix="blocks.0.attn")
    for linear in (layer.qkv_proj, layer.out_proj):
        linear.quant_method.process_weights_after_loading(linear)
    print(layer(torch.arange(3), torch.ones(3, 256)).shape)
"""


@pytest.mark.engine
@pytest.mark.parametrize(("kv_heads", "works"), [(4, True), (2, False)])
def test_moondream3_has_as_many_kv_heads_as_query_heads(
    tmp_path: Path, kv_heads: int, works: bool
) -> None:
    """Its published code multiplies V by a factor for each query head, so no rank shares any.

    With fewer KV heads the layer is without meaning even on one rank: there is nothing to patch.
    """
    script = MOONDREAM.replace("KV", str(kv_heads)).replace("MEETING", str(tmp_path / "meeting"))
    ran = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=False
    )
    assert ("torch.Size([3, 256])" in ran.stdout) is works, ran.stderr
    assert ("shapes cannot be multiplied" in ran.stderr) is not works
