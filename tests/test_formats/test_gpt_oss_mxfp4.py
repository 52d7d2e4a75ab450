# SPDX-License-Identifier: Apache-2.0
"""gpt-oss: row X3 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import pytest
import testkit
import torch

from vllm_ascend_bringup.errors import FormatError

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
EXPERTS = "model.layers.0.mlp.experts"
GATE_UP, DOWN = f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj"
SETTINGS: "dict[str, Any]" = {
    "quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"],
}  # fmt: skip
GPT_OSS: "dict[str, Any]" = {"quant_method": "gpt_oss_mxfp4"}


@pytest.mark.parametrize("settings", [SETTINGS, GPT_OSS], ids=("mxfp4", "gpt-oss-mxfp4"))
@pytest.mark.parametrize("dtype", ["U8", "F8_E8M0"])
@pytest.mark.parametrize(("E", "out", "inputs"), [(2, 8, 96), (1, 1, 32), (3, 7, 64)], ids=str)
def test_x3_blocks_become_experts_in_by_out(
    check_format: Check, settings: "dict[str, Any]", E: int, out: int, inputs: int, dtype: str
) -> None:
    made = format_kit.gpt_oss(GATE_UP, E, out, inputs, dtype=dtype)
    assert made.tensors[f"{GATE_UP}_blocks"].shape == (E, out, inputs // 32, 16)
    assert made.wanted[GATE_UP].shape == (E, inputs, out)
    check_format(made, settings, {"model_type": "gpt_oss"})


def test_x3_a_whole_layer_keeps_biases_sinks_and_router(check_format: Check) -> None:
    made = format_kit.gpt_oss(GATE_UP, 2, 128, 64) | format_kit.gpt_oss(DOWN, 2, 64, 64)
    kept = {
        f"{GATE_UP}_bias": torch.randn(2, 128).bfloat16(),
        f"{DOWN}_bias": torch.randn(2, 64).bfloat16(),
        "model.layers.0.mlp.router.weight": torch.randn(2, 64).bfloat16(),
        "model.layers.0.self_attn.sinks": torch.randn(4).bfloat16(),
    }
    check_format(made | format_kit.Made(kept, {}, kept), SETTINGS, {"model_type": "gpt_oss"})


def test_gate_and_up_stay_interleaved(tmp_path: Path, decode_checkpoint: Decode) -> None:
    blocks = torch.zeros(1, 4, 1, 16, dtype=torch.uint8)
    for row in range(4):
        blocks[0, row] = (row + 1) * 0x11  # all of a row is one code
    tensors = {
        f"{GATE_UP}_blocks": blocks,
        f"{GATE_UP}_scales": torch.full((1, 4, 1), 127, dtype=torch.uint8),
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": SETTINGS})
    assert decode_checkpoint(folder)[GATE_UP].tolist() == [[[0.5, 1.0, 1.5, 2.0]] * 32]


def test_as_transformers_converts() -> None:
    mxfp4 = pytest.importorskip("transformers.integrations.mxfp4")
    made = format_kit.gpt_oss(GATE_UP, 2, 8, 96)
    wanted = mxfp4.convert_moe_packed_tensors(
        made.tensors[f"{GATE_UP}_blocks"], made.tensors[f"{GATE_UP}_scales"]
    )
    found = format_kit.rounded(made.wanted[GATE_UP], torch.bfloat16)
    assert format_kit.same_bits(found, wanted)


@pytest.mark.parametrize(
    ("blocks", "scales", "found", "expected"),
    [
        pytest.param((2, 8, 3, 16), None, "has no scale", f"{GATE_UP}_scales", id="no-scales"),
        pytest.param((2, 8, 3, 8), (2, 8, 3), "[2, 8, 3, 8]", "16 bytes", id="blocks-of-8-bytes"),
        pytest.param((2, 8, 48), (2, 8, 3), "[2, 8, 48]", "", id="flattened"),
        pytest.param((2, 8, 3, 16), (2, 8, 4), "[2, 8, 4]", "[2, 8, 3]", id="one-group-more"),
        pytest.param((2, 8, 3, 16), (2, 3, 8), "[2, 3, 8]", "[2, 8, 3]", id="scales-transposed"),
        pytest.param((2, 8, 3, 16), (2, 8, 3, 1), "[2, 8, 3, 1]", "[2, 8, 3]", id="scales-4d"),
        pytest.param((2, 8, 3, 16), (2, 8), "[2, 8]", "[2, 8, 3]", id="scales-2d"),
    ],
)
@pytest.mark.parametrize("settings", [SETTINGS, GPT_OSS], ids=("mxfp4", "gpt-oss-mxfp4"))
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, settings: "dict[str, Any]",
    blocks: tuple[int, ...], scales: "tuple[int, ...] | None", found: str, expected: str,
) -> None:  # fmt: skip
    tensors = {f"{GATE_UP}_blocks": torch.ones(blocks, dtype=torch.uint8)}
    if scales is not None:
        tensors[f"{GATE_UP}_scales"] = torch.full(scales, 127, dtype=torch.uint8)
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_exponent_255_is_refused_where_transformers_makes_it_infinite(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    made = format_kit.gpt_oss(GATE_UP, 2, 8, 64)
    scales = made.tensors[f"{GATE_UP}_scales"].clone()
    scales[1, 7, 1] = 255
    tensors = {**made.tensors, f"{GATE_UP}_scales": scales}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": SETTINGS})
    with pytest.raises(FormatError, match=r"is NaN at \[1, 7, 1\]"):
        decode_checkpoint(tmp_path)


def test_scales_without_blocks_are_refused(tmp_path: Path, decode_checkpoint: Decode) -> None:
    tensors = {f"{GATE_UP}_scales": torch.full((2, 8, 2), 127, dtype=torch.uint8)}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": SETTINGS})
    with pytest.raises(FormatError, match=f"there is no {GATE_UP}_blocks"):
        decode_checkpoint(tmp_path)
