# SPDX-License-Identifier: Apache-2.0
"""MXFP4: rows X2, X4 and H1 of the format reference's test matrix."""

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
COMPRESSED: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "float", "strategy": "group", "group_size": 32,
                    "scale_dtype": "torch.uint8"},
    }},
}  # fmt: skip
DEEPSEEK: "dict[str, Any]" = {
    "quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [128, 128],
}  # fmt: skip
MXFP4: "dict[str, Any]" = {"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}
QUARK: "dict[str, Any]" = {
    "quant_method": "quark",
    "global_quant_config": {"weight": {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}},
}  # fmt: skip
MODULE = "model.layers.0.mlp.experts.0.up_proj"
EXPERT = "layers.0.ffn.experts.0.w1"


@pytest.mark.parametrize("dtype", ["U8", "F8_E8M0"])
@pytest.mark.parametrize("shape", [(8, 64), (1, 32), (7, 96), (3, 5, 64)], ids=str)
def test_x2_compressed_tensors(check_format: Check, shape: tuple[int, ...], dtype: str) -> None:
    made = format_kit.mxfp4(
        f"{MODULE}.weight_packed", f"{MODULE}.weight_scale", shape,
        name=f"{MODULE}.weight", dtype=dtype,
    )  # fmt: skip
    check_format(made, COMPRESSED)


@pytest.mark.parametrize("config", [{"expert_dtype": "fp4"}, {"model_type": "deepseek_v4"}, {}],
                         ids=("expert-dtype", "model-type", "in-settings"))  # fmt: skip
@pytest.mark.parametrize("stored", ["I8", "U8"])
@pytest.mark.parametrize("shape", [(4, 64), (5, 96), (2, 3, 32)], ids=str)
def test_x4_deepseek_v4_experts(
    check_format: Check, shape: tuple[int, ...], stored: str, config: "dict[str, Any]"
) -> None:
    made = format_kit.mxfp4(
        f"{EXPERT}.weight", f"{EXPERT}.scale", shape,
        name=f"{EXPERT}.weight", stored=stored, dtype="F8_E8M0",
    )  # fmt: skip
    if stored == "I8":
        assert bool((made.tensors[f"{EXPERT}.weight"] < 0).any())
    check_format(made, DEEPSEEK if config else {**DEEPSEEK, "expert_dtype": "fp4"}, config)


@pytest.mark.parametrize("dense", ["F32", "F8_E8M0"])
@pytest.mark.parametrize("where", ["routed_experts_quant_method", "store_dtype"])
def test_h1_hybrid_names_both_scales_weight_scale_inv(
    check_format: Check, where: str, dense: str
) -> None:
    dense_name = "model.layers.0.self_attn.o_proj.weight"
    made = format_kit.fp8(
        dense_name, (160, 192), (128, 128), scale=f"{dense_name}_scale_inv", dtype=dense
    ) | format_kit.mxfp4(
        f"{MODULE}.weight", f"{MODULE}.weight_scale_inv", (8, 64), name=f"{MODULE}.weight"
    )
    settings = {"quant_method": "fp8", "weight_block_size": [128, 128], where: "mxfp4"}
    check_format(made, settings)


@pytest.mark.parametrize(
    "settings",
    [MXFP4, QUARK, {"quant_method": "modelopt", "quant_algo": "W4A8_MXFP4_FP8"}],
    ids=("mxfp4", "quark", "modelopt"),
)
@pytest.mark.parametrize("dtype", ["U8", "F8_E8M0", "F32", "BF16", "F16"])
@pytest.mark.parametrize("shape", [(6, 64), (2, 3, 96)], ids=str)
def test_generic_experts_with_scales_of_any_dtype(
    check_format: Check, settings: "dict[str, Any]", shape: tuple[int, ...], dtype: str
) -> None:
    name = f"{MODULE}.weight"
    check_format(format_kit.mxfp4(name, f"{name}_scale", shape, name=name, dtype=dtype), settings)


def test_every_code_and_the_order_in_a_byte(tmp_path: Path, decode_checkpoint: Decode) -> None:
    name = f"{MODULE}.weight"
    # 0x10: the first element has code 0, the second code 1.
    codes = torch.tensor([[i << 4 | i - 1 for i in range(1, 16, 2)] * 2], dtype=torch.uint8)
    tensors = {name: codes, f"{name}_scale": torch.tensor([[128]], dtype=torch.uint8)}
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MXFP4})
    positive = [0.0, 1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0]
    found = decode_checkpoint(folder)[name]
    assert found.tolist() == [[*positive, *(-v for v in positive)] * 2]
    assert torch.signbit(found)[0].tolist() == ([False] * 8 + [True] * 8) * 2


@pytest.mark.parametrize("byte", [0, 1, 126, 127, 128, 254])
def test_ends_of_the_exponents(tmp_path: Path, decode_checkpoint: Decode, byte: int) -> None:
    name = f"{MODULE}.weight"
    tensors = {
        name: torch.full((1, 16), 0x21, dtype=torch.uint8),  # a half, and one
        f"{name}_scale": torch.tensor([[byte]], dtype=torch.uint8),
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MXFP4})
    one = 2.0 ** (byte - 127)
    assert decode_checkpoint(folder, torch.float32)[name].tolist() == [[one / 2, one] * 16]


@pytest.mark.parametrize("value", [3.0, 0.75, 1.0000001], ids=str)
@pytest.mark.parametrize("at", [(0, 0), (7, 1)], ids=str)
def test_float_scale_that_is_no_power_of_two_is_refused(
    tmp_path: Path, decode_checkpoint: Decode, value: float, at: tuple[int, int]
) -> None:
    name = f"{MODULE}.weight"
    scale = torch.ones(8, 2)
    scale[at] = value
    tensors = {name: torch.ones(8, 32, dtype=torch.uint8), f"{name}_scale": scale}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MXFP4})
    with pytest.raises(FormatError, match=rf"{name}_scale in model.safetensors holds") as caught:
        decode_checkpoint(tmp_path)
    assert f"{value:g}" in caught.value.found
    assert "powers of two" in caught.value.expected


def test_float_zero_over_zeros_is_a_dead_block(tmp_path: Path, decode_checkpoint: Decode) -> None:
    name = f"{MODULE}.weight"
    codes = torch.full((2, 32), 0x11, dtype=torch.uint8)
    codes[1, 16:] = 0x80  # zero and minus zero
    tensors = {name: codes, f"{name}_scale": torch.tensor([[1.0, 1.0], [1.0, 0.0]])}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MXFP4})
    found = decode_checkpoint(tmp_path)[name]
    assert found[0].tolist() == [0.5] * 64
    assert found[1].tolist() == [0.5] * 32 + [0.0] * 32


def test_as_compressed_tensors_decompresses(check_format: Check) -> None:
    base = pytest.importorskip("compressed_tensors.compressors.mxfp4.base")
    made = format_kit.mxfp4("m.weight_packed", "m.weight_scale", (8, 64), name="m.weight")
    state = {name.removeprefix("m."): tensor for name, tensor in made.tensors.items()}
    wanted = base.MXFP4PackedCompressor.decompress(state, None)["weight"]
    assert torch.equal(format_kit.rounded(made.wanted["m.weight"], torch.bfloat16), wanted)
    check_format(made, COMPRESSED)


def test_as_transformers_unpacks_fp4_experts(check_format: Check) -> None:
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    name = f"{EXPERT}.weight"
    made = format_kit.mxfp4(
        name, f"{EXPERT}.scale", (4, 64), name=name, stored="I8", dtype="F8_E8M0"
    )
    wanted = fp8.Fp8Dequantize(None)._dequantize_one(
        made.tensors[name], made.tensors[f"{EXPERT}.scale"].float(), torch.bfloat16
    )
    assert torch.equal(format_kit.rounded(made.wanted[name], torch.bfloat16), wanted)
    check_format(made, DEEPSEEK, {"expert_dtype": "fp4"})
