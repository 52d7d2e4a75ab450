# SPDX-License-Identifier: Apache-2.0
"""`bringup inspect`: facts, sizes, exit codes, JSON, and no traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import testkit
import torch

from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
from vllm_ascend_bringup.tools.demo import CHECKPOINT

BRINGUP = str(Path(sys.executable).with_name("bringup"))
CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "num_hidden_layers": 1,
    "hidden_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 64,
    "vocab_size": 16, "torch_dtype": "bfloat16",
}  # fmt: skip
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def bringup(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the installed command."""
    return subprocess.run(
        [BRINGUP, *arguments], env={**os.environ, **environment}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def tiny(folder: Path, *, scale: bool = True, quantization: bool = True) -> Path:
    """A checkpoint with one q, k and router matrix each, q and k in fp8."""
    tensors: dict[str, torch.Tensor] = {}
    for name, rows in (("q_proj", 256), ("k_proj", 128)):
        codes, grid = testkit.quantize(torch.randn(rows, 256), (128, 128))
        weight = f"model.layers.0.self_attn.{name}.weight"
        tensors[weight] = codes.view(torch.float8_e4m3fn)
        if scale:
            tensors[weight + "_scale_inv"] = grid
    tensors["model.layers.0.mlp.gate.weight"] = torch.randn(8, 256).bfloat16()
    config = {**CONFIG, **({"quantization_config": FP8} if quantization else {})}
    return testkit.write_checkpoint(folder, tensors, config)


def test_sizes_before_and_after_decoding(tmp_path: Path) -> None:
    report = report_checkpoint(tiny(tmp_path))
    q, k, router = 256 * 256, 128 * 256, 8 * 256 * 2
    scales = (4 + 2) * 4
    assert report.stored_bytes == q + k + router + scales
    assert report.decoded_bytes == 2 * q + 2 * k + router
    by_tp = {size.tp: size for size in report.tp_sizes}
    assert list(by_tp) == [1, 2, 4]
    # Two KV heads: at TP 4 each is held by two ranks, so k_proj is halved, not quartered.
    assert by_tp[4].decoded_bytes == 2 * q // 4 + 2 * k // 2 + router
    assert [size.kv_replicas for size in report.tp_sizes] == [1, 1, 2]
    assert [size.query_heads for size in report.tp_sizes] == [4, 2, 1]


def test_demo_checkpoint_is_understood() -> None:
    report = report_checkpoint(CHECKPOINT)
    assert report.known_to_vllm is True
    assert report.formats == {"block fp8": 28}
    assert report.shards == 2
    assert report.model.attention == "GQA"
    assert "decoded while loading" in report.action
    assert report.exit_code == 0


def test_json_has_schema_version_and_nothing_else_on_stdout() -> None:
    done = bringup("inspect", str(CHECKPOINT), "--json")
    content = json.loads(done.stdout)
    assert done.returncode == 0
    assert content["schema_version"] == 1
    assert content["command"] == "inspect"
    assert content["model"]["query_heads"] == 4
    assert content["model_class"] == {"source": "vLLM", "supported_until": None}
    assert content["answers"]["mtp"]["state"] == "not applicable"
    assert content["answers"]["context"] == {"config": 512, "tokenizer": 512, "default": 512}
    assert content["processors"]["files"] == ["chat_template.jinja"]
    assert content["tokenizer_files"] == ["tokenizer.json", "tokenizer_config.json"]
    assert content["remote_code"]["files"] == {}


def test_text_names_what_matters() -> None:
    done = bringup("inspect", str(CHECKPOINT))
    for text in ("Qwen3ForCausalLM", "4 query heads, 2 KV heads", "28 block fp8", "512 tokens",
                 "tied, no lm_head", "no problems"):  # fmt: skip
        assert text in done.stdout


@pytest.mark.parametrize(
    ("missing", "code", "text"),
    [("scale", 5, "has no scale"), ("quantization", 5, "no quantization settings")],
)
def test_what_would_not_load_is_an_error(
    tmp_path: Path, missing: str, code: int, text: str
) -> None:
    folder = tiny(tmp_path, scale=missing != "scale", quantization=missing != "quantization")
    done = bringup("inspect", str(folder))
    assert done.returncode == code
    assert text in done.stdout
    assert "refused" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "text"),
    [
        (["inspect", "no-such-folder"], {}, 4, "not a directory"),
        (["inspect"], {}, 2, "Missing argument"),
        (["no-such-command"], {}, 2, "No such command"),
        (["inspect", str(CHECKPOINT)], {"VLLM_ASCEND_BRINGUP_DEQUANT": "x"}, 3, "always"),
        (["inspect", str(CHECKPOINT)], {"VLLM_ASCEND_BRINGUP_DEQANT": "auto"}, 3, "unknown"),
    ],
    ids=["no folder", "no argument", "no command", "bad value", "misspelt variable"],
)
def test_wrong_use_has_its_own_exit_code_and_no_traceback(
    arguments: list[str], environment: dict[str, str], code: int, text: str
) -> None:
    done = bringup(*arguments, **environment)
    assert done.returncode == code
    assert text in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_debug_shows_the_traceback() -> None:
    assert "Traceback" in bringup("inspect", "no-such-folder", "--debug").stderr


def test_dequant_never_is_said(tmp_path: Path) -> None:
    done = bringup("inspect", str(tiny(tmp_path)), VLLM_ASCEND_BRINGUP_DEQUANT="never")
    assert "left to vLLM, because VLLM_ASCEND_BRINGUP_DEQUANT=never" in done.stdout


def test_vllm_registry_read_from_source_equals_the_imported_one() -> None:
    """In a process of its own: in this one, a test may have registered the plugin."""
    from vllm_ascend_bringup.tools.vllm_registry import installed_vllm

    code = (
        "import json; from vllm.model_executor.models.registry import ModelRegistry; "
        "print(json.dumps(list(ModelRegistry.get_supported_archs())))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    imported = json.loads(done.stdout.splitlines()[-1])
    assert installed_vllm().architectures == set(imported)
