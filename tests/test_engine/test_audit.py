# SPDX-License-Identifier: Apache-2.0
"""``bringup audit`` on a checkpoint with one defect of each kind; those it must not report, too."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from testkit import write_checkpoint

from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.tools.audit import audit
from vllm_ascend_bringup.tools.demo import CHECKPOINT

pytestmark = pytest.mark.engine
_BRINGUP = str(Path(sys.executable).with_name("bringup"))
_LAYER = "model.layers.1."


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    stored: dict[str, torch.Tensor] = {}
    for shard in CHECKPOINT.glob("*.safetensors"):
        stored |= load_file(shard)
    stored[f"{_LAYER}self_attn.q_nrom.weight"] = stored.pop(f"{_LAYER}self_attn.q_norm.weight")
    stored["model.extra.weight"] = torch.zeros(3, dtype=torch.bfloat16)
    stored["model.norm.weight"] = stored["model.norm.weight"].float()
    wrong = f"{_LAYER}post_attention_layernorm.weight"
    stored[wrong] = torch.cat([stored[wrong], stored[wrong]])
    up, scale = f"{_LAYER}mlp.up_proj.weight", f"{_LAYER}mlp.up_proj.weight_scale_inv"
    long = torch.cat([stored[up].view(torch.uint8)] * 2).view(torch.float8_e4m3fn)
    # Twice as many rows, which vLLM's loader narrows without a word.
    stored[up], stored[scale] = long, torch.ones(-(-long.shape[0] // 128), stored[scale].shape[1])
    config = json.loads((CHECKPOINT / "config.json").read_text())
    folder = write_checkpoint(tmp_path_factory.mktemp("defects") / "model", stored, config)
    done = subprocess.run(
        [_BRINGUP, "audit", str(folder), "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6, done.stderr
    content: dict[str, Any] = json.loads(done.stdout)
    return content


def named(findings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {finding["names"]: finding for finding in findings}


def test_misspelt_and_superfluous_tensors_are_unexpected(report: dict[str, Any]) -> None:
    found = named(report["unexpected"])
    assert set(found) == {"model.extra.weight", "model.layers.{n}.self_attn.q_nrom.weight"}
    misspelt = found["model.layers.{n}.self_attn.q_nrom.weight"]
    assert misspelt["nearest"][0] == f"{_LAYER}self_attn.q_norm.weight"


def test_the_other_side_is_missing(report: dict[str, Any]) -> None:
    found = named(report["missing"])
    assert set(found) == {"model.layers.{n}.self_attn.q_norm.weight"}
    (missing,) = found.values()
    assert missing["count"] == 1
    assert missing["detail"] == "[64] wanted, nothing fills it"
    assert missing["nearest"][0] == f"{_LAYER}self_attn.q_nrom.weight"


def test_wrong_shapes_are_conflicts_also_where_vllm_would_not_notice(
    report: dict[str, Any],
) -> None:
    found = named(report["conflicts"])
    assert {name: finding["detail"] for name, finding in found.items()} == {
        "model.layers.{n}.post_attention_layernorm.weight":
            "[512] in the checkpoint, [256] wanted",
        "model.layers.{n}.mlp.up_proj.weight": "[1408, 256] in the checkpoint, [704, 256] wanted",
    }  # fmt: skip


def test_casts_and_ties_are_told(report: dict[str, Any]) -> None:
    assert report["casts"] == {"float32 to bfloat16": 1}
    assert report["ties"] == {"lm_head.weight": "model.embed_tokens.weight"}


def test_it_ends_with_what_it_cannot_see(report: dict[str, Any]) -> None:
    assert len(report["blind_spots"]) >= 4


def test_unknown_architecture_is_one_clear_error(tmp_path: Path) -> None:
    config = json.loads((CHECKPOINT / "config.json").read_text())
    changed = {**config, "architectures": ["NobodyForCausalLM"]}
    tensor = {"x": torch.zeros(2, dtype=torch.bfloat16)}
    del changed["quantization_config"]
    folder = write_checkpoint(tmp_path / "model", tensor, changed)
    done = subprocess.run(
        [_BRINGUP, "audit", str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert "NobodyForCausalLM" in done.stderr
    assert "--suggest" in done.stderr
    assert "Traceback" not in done.stderr


def test_says_what_the_size_does() -> None:
    shared = audit(CHECKPOINT, 4)
    assert shared.clean
    (warning,) = shared.warnings
    assert warning.startswith("TP=4: each of 2 KV heads is on 2 ranks")
    with pytest.raises(SettingsError, match=r"TP=3: 4 query heads do not divide by 3\..* TP=1 or"):
        audit(CHECKPOINT, 3)
