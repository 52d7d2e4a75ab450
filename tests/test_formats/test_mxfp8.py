# SPDX-License-Identifier: Apache-2.0
"""MXFP8: row X1 of the format reference's test matrix."""

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
NAME = "model.layers.0.mlp.up_proj.weight"
MXFP8: "dict[str, Any]" = {"quant_method": "mxfp8", "ignored_layers": ["lm_head"]}
COMPRESSED: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "mxfp8-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "group", "group_size": 32,
                    "scale_dtype": "torch.uint8"},
    }},
}  # fmt: skip
MODELOPT: "dict[str, Any]" = {"quant_method": "modelopt_mxfp8", "quant_algo": "MXFP8"}
QUARK: "dict[str, Any]" = {
    "quant_method": "quark", "global_quant_config": {"weight": {
        "dtype": "fp8_e4m3", "qscheme": "per_group", "group_size": 32, "scale_format": "e8m0"}},
}  # fmt: skip
DENSE: "dict[str, Any]" = {
    "quant_method": "fp8", "weight_block_size": [128, 128], "dense_format": "mxfp8",
}  # fmt: skip


def mxfp8(shape: tuple[int, ...], suffix: str = "_scale", dtype: str = "U8") -> format_kit.Made:
    return format_kit.fp8(NAME, shape, (1, 32), scale=f"{NAME}{suffix}", dtype=dtype)


@pytest.mark.parametrize(
    "settings", [MXFP8, COMPRESSED, MODELOPT, QUARK, DENSE],
    ids=("mxfp8", "ct", "modelopt", "quark", "fp8-dense"),
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["_scale", "_scale_inv"])
@pytest.mark.parametrize("dtype", ["U8", "F8_E8M0"])
@pytest.mark.parametrize("shape", [(8, 64), (1, 32), (7, 96), (3, 5, 64)], ids=str)
def test_x1_bytes_are_exponents_whatever_the_scale_is_called(
    check_format: Check, settings: "dict[str, Any]", suffix: str, dtype: str, shape: tuple[int, ...]
) -> None:
    check_format(mxfp8(shape, suffix, dtype), settings)


@pytest.mark.parametrize("dtype", ["U8", "F8_E8M0"])
def test_x1_blocks_of_32_by_32_are_rows_of_equal_scales(check_format: Check, dtype: str) -> None:
    name = NAME.removesuffix(".weight")
    made = format_kit.fp8(NAME, (64, 64), (32, 32), scale=f"{name}.scale", dtype=dtype)
    rows = made.tensors[f"{name}.scale"].view(torch.uint8).repeat_interleave(32, 0)
    by_row = {NAME: made.tensors[NAME], f"{NAME}_scale": rows}
    settings = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    check_format(made, settings, {"model_type": "deepseek_v41"})
    check_format(format_kit.Made(by_row, made.wanted), MXFP8)


@pytest.mark.parametrize("byte", [0, 1, 126, 127, 128, 254])
def test_ends_of_the_exponents(tmp_path: Path, decode_checkpoint: Decode, byte: int) -> None:
    tensors = {
        NAME: torch.tensor([[0x38, 0x30] * 16], dtype=torch.uint8).view(torch.float8_e4m3fn),
        f"{NAME}_scale_inv": torch.tensor([[byte]], dtype=torch.uint8),
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MXFP8})
    one = 2.0 ** (byte - 127)
    assert decode_checkpoint(folder, torch.float32)[NAME].tolist() == [[one, one / 2] * 16]


def test_as_compressed_tensors_decompresses(check_format: Check) -> None:
    base = pytest.importorskip("compressed_tensors.compressors.mxfp8.base")
    made = mxfp8((8, 64))
    state = {"weight": made.tensors[NAME], "weight_scale": made.tensors[f"{NAME}_scale"]}
    quantization = pytest.importorskip("compressed_tensors.quantization")
    group = COMPRESSED["config_groups"]["group_0"]
    scheme = quantization.QuantizationScheme.model_validate(group)
    wanted = base.MXFP8QuantizationCompressor.decompress(state, scheme)["weight"]
    assert torch.equal(format_kit.rounded(made.wanted[NAME], torch.bfloat16), wanted.bfloat16())
    check_format(made, COMPRESSED)


def test_as_transformers_dequantizes(check_format: Check) -> None:
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    made = mxfp8((8, 64), "_scale_inv")
    wanted = fp8.Fp8Dequantize(None)._dequantize_one(
        made.tensors[NAME], made.tensors[f"{NAME}_scale_inv"], torch.bfloat16
    )
    assert torch.equal(format_kit.rounded(made.wanted[NAME], torch.bfloat16), wanted)
    check_format(made, MXFP8)


@pytest.mark.parametrize(
    ("shape", "scale", "found", "expected"),
    [
        pytest.param((8, 64), torch.ones(8, 2), "F32", "F8_E8M0, U8", id="float-scale"),
        pytest.param((8, 48), torch.ones(8, 2, dtype=torch.uint8), "[8, 48]", "32 divides",
                     id="ragged"),
        pytest.param((8, 64), torch.ones(2, 8, dtype=torch.uint8), "[2, 8]", "[8, 2]",
                     id="transposed"),
        pytest.param((8, 64), torch.ones(8, 4, dtype=torch.uint8), "[8, 4]", "[8, 2]",
                     id="groups-of-16"),
        pytest.param((8, 64), torch.full((8, 2), 255, dtype=torch.uint8), "NaN", "finite",
                     id="exponent-255"),
        pytest.param((8, 64), torch.ones(8, 2, dtype=torch.int8), "I8", "U8", id="scale-int8"),
    ],
)  # fmt: skip
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, shape: tuple[int, ...], scale: torch.Tensor,
    found: str, expected: str,
) -> None:  # fmt: skip
    tensors = {NAME: torch.zeros(shape).to(torch.float8_e4m3fn), f"{NAME}_scale": scale}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MXFP8})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected
