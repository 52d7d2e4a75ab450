# SPDX-License-Identifier: Apache-2.0
"""Block fp8: rows B1 to B5, E1 and S1 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.formats.base import Scheme, Stored, Unfit
from vllm_ascend_bringup.formats.block_fp8 import BlockFp8

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
NAME = "model.layers.0.mlp.up_proj.weight"
FP8: "dict[str, Any]" = {
    "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
}  # fmt: skip
COMPRESSED: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 8, "type": "float", "strategy": "block",
                    "block_structure": [128, 128]},
    }},
}  # fmt: skip
DTYPES = pytest.mark.parametrize(
    "dtype", [torch.bfloat16, torch.float16, torch.float32], ids=("bf16", "fp16", "fp32")
)


def weight(
    N: int, K: int, block: tuple[int, int] = (128, 128)
) -> tuple[torch.Tensor, torch.Tensor]:
    return testkit.quantize(torch.randn(N, K) * 0.02, block)


def write(
    folder: Path, settings: "dict[str, Any]", codes: torch.Tensor, suffix: str, scale: torch.Tensor
) -> Path:
    tensors = {NAME: codes.view(torch.float8_e4m3fn), NAME + suffix: scale}
    return testkit.write_checkpoint(folder, tensors, {"quantization_config": settings})


@DTYPES
@pytest.mark.parametrize(
    ("N", "K"),
    [(256, 384), (160, 192), (192, 256), (576, 256), (1, 130), (129, 128), (1, 1), (127, 257)],
    ids=str,
)
def test_b1_b2_every_grid_ragged_or_not(
    tmp_path: Path, decode_checkpoint: Decode, N: int, K: int, dtype: torch.dtype
) -> None:
    codes, scale = weight(N, K)
    assert scale.shape == (-(-N // 128), -(-K // 128))
    found = decode_checkpoint(write(tmp_path, FP8, codes, "_scale_inv", scale), dtype)
    assert list(found) == [NAME]
    assert found[NAME].dtype == dtype
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (128, 128), dtype))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=("bf16", "fp16"))
@pytest.mark.parametrize("suffix", ["_scale", "_scale_inv"])
@pytest.mark.parametrize("settings", [FP8, COMPRESSED], ids=("fp8", "compressed-tensors"))
def test_b3_sixteen_bit_scales_both_spellings_both_families(
    tmp_path: Path,
    decode_checkpoint: Decode,
    settings: "dict[str, Any]",
    suffix: str,
    dtype: torch.dtype,
) -> None:
    codes, scale = weight(256, 384)
    scale = scale.to(dtype)
    found = decode_checkpoint(write(tmp_path, settings, codes, suffix, scale))
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (128, 128), torch.bfloat16))


@pytest.mark.parametrize("block", [(64, 128), (128, 64), (1, 128), (32, 32)], ids=str)
def test_block_size_comes_from_the_config(
    tmp_path: Path, decode_checkpoint: Decode, block: tuple[int, int]
) -> None:
    codes, scale = weight(160, 192, block)
    settings = {**FP8, "weight_block_size": list(block)}
    found = decode_checkpoint(write(tmp_path, settings, codes, "_scale_inv", scale))
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, block, torch.bfloat16))


def test_b4_scale_fmt_does_not_round_a_float_scale(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    codes, scale = weight(256, 128)
    scale[0, 0] = 8.074192010099068e-05
    settings = {**FP8, "scale_fmt": "ue8m0"}
    found = decode_checkpoint(write(tmp_path, settings, codes, "_scale_inv", scale))
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (128, 128), torch.bfloat16))


@pytest.mark.parametrize("stored", [torch.float8_e8m0fnu, torch.uint8], ids=("F8_E8M0", "U8"))
@pytest.mark.parametrize("suffix", ["_scale", "_scale_inv"])
def test_b5_e8m0_scales_are_exponents(
    tmp_path: Path, decode_checkpoint: Decode, stored: torch.dtype, suffix: str
) -> None:
    exponents = [[0, 1, 100], [127, 130, 254]]
    codes = torch.randint(0, 0x7F, (256, 384), dtype=torch.uint8)
    codes[128:, 256:] &= 0x3F  # below two: times 2**127 that is still a float32
    scale = torch.tensor(exponents, dtype=torch.uint8)
    found = decode_checkpoint(
        write(tmp_path, {**FP8, "scale_fmt": "ue8m0"}, codes, suffix, scale.view(stored)),
        torch.float32,
    )[NAME]
    values = codes.view(torch.float8_e4m3fn).double()
    for r, row in enumerate(exponents):
        for c, exponent in enumerate(row):
            part = (slice(128 * r, 128 * r + 128), slice(128 * c, 128 * c + 128))
            assert torch.equal(found[part].double(), (values[part] * 2.0 ** (exponent - 127)))


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16", "U8", "F8_E8M0"])
@pytest.mark.parametrize("suffix", ["_scale", "_scale_inv"])
@pytest.mark.parametrize(
    ("shape", "block"),
    [((160, 192), (128, 128)), ((33, 70), (32, 32)), ((9, 14), (4, 3)), ((2, 9, 14), (4, 3)),
     ((3, 5, 40), (1, 16))],
    ids=str,
)  # fmt: skip
def test_slices_that_cut_through_blocks(
    check_format: Check, shape: tuple[int, ...], block: tuple[int, int], suffix: str, dtype: str
) -> None:
    made = format_kit.fp8(NAME, shape, block, scale=NAME + suffix, dtype=dtype)
    check_format(made, {**FP8, "weight_block_size": list(block)})


@pytest.mark.parametrize("dtype", ["F8_E8M0", "F32"], ids=("flash", "flash-base"))
@pytest.mark.parametrize("block", [(128, 128), (32, 32)], ids=("v4", "v4.1"))
@pytest.mark.parametrize("shape", [(160, 192), (64, 32), (2, 130, 40)], ids=str)
def test_deepseek_v4_calls_the_scale_scale(
    check_format: Check, shape: tuple[int, ...], block: tuple[int, int], dtype: str
) -> None:
    module = "layers.0.attn.wq_a"
    made = format_kit.fp8(f"{module}.weight", shape, block, scale=f"{module}.scale", dtype=dtype)
    made |= format_kit.plain(
        layers__0__hc_attn_scale=torch.randn(3), layers__0__hc_ffn_scale=torch.randn(3),
        hc_head_scale=torch.randn(1), layers__0__attn__attn_sink=torch.randn(4),
        layers__0__ffn__gate__tid2eid=torch.randint(0, 9, (5, 2), dtype=torch.int32),
        layers__0__ffn__gate__bias=torch.randn(4), embed__weight=torch.randn(6, 8).bfloat16(),
    )  # fmt: skip
    settings = {**FP8, "weight_block_size": list(block), "scale_fmt": "ue8m0"}
    check_format(made, settings, {"model_type": "deepseek_v4", "expert_dtype": "fp8"})


def test_r1_every_code_that_is_a_number(check_format: Check) -> None:
    codes = torch.arange(256, dtype=torch.uint8).reshape(2, 128)
    codes[:, 127] = codes[:, 126]  # the two NaN
    made = format_kit.Made(
        {NAME: codes.view(torch.float8_e4m3fn), f"{NAME}_scale_inv": torch.tensor([[0.3]])},
        {NAME: format_kit.E4M3[codes.numpy()] * torch.tensor(0.3).numpy()},
    )
    check_format(made, FP8)


@pytest.mark.parametrize("shape", [(256, 384), (130, 128)], ids=str)
def test_as_transformers_dequantizes_where_blocks_are_whole(
    check_format: Check, shape: tuple[int, int]
) -> None:
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    block = (shape[0] // 2, 128)
    made = format_kit.fp8(NAME, shape, block, scale=f"{NAME}_scale_inv")
    wanted = fp8.Fp8Dequantize(None)._dequantize_one(
        made.tensors[NAME], made.tensors[f"{NAME}_scale_inv"], torch.bfloat16
    )
    assert torch.equal(format_kit.rounded(made.wanted[NAME], torch.bfloat16), wanted)
    check_format(made, {**FP8, "weight_block_size": list(block)})


@pytest.mark.parametrize("shape", [(160, 192), (192, 256), (576, 256), (1, 130)], ids=str)
def test_b2_as_compressed_tensors_dequantizes_ragged_tails(shape: tuple[int, int]) -> None:
    forward = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    made = format_kit.fp8(NAME, shape, (128, 128), scale=f"{NAME}_scale")
    args = quantization.QuantizationArgs(
        **COMPRESSED["config_groups"]["group_0"]["weights"], dynamic=False
    )
    wanted = forward.dequantize(
        made.tensors[NAME].float(), made.tensors[f"{NAME}_scale"], args=args, dtype=torch.float32
    )
    assert torch.equal(torch.from_numpy(made.wanted[NAME]), wanted)


def test_e1_fused_experts_are_decoded_whole_then_cut(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    # 192 is one and a half blocks: gate and up share the middle row of scales.
    experts = [weight(384, 128) for _ in range(2)]
    name = "model.layers.0.mlp.experts.gate_up_proj"
    tensors = {
        name: torch.stack([codes for codes, _ in experts]).view(torch.float8_e4m3fn),
        f"{name}_scale_inv": torch.stack([scale for _, scale in experts]),
    }
    found = decode_checkpoint(
        testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": FP8})
    )[name]
    assert found.shape == (2, 384, 128)
    for index, (codes, scale) in enumerate(experts):
        dense = testkit.dequantize(codes, scale, (128, 128), torch.bfloat16)
        for part, wanted in zip(found[index].chunk(2), dense.chunk(2), strict=True):
            assert torch.equal(part, wanted)


@pytest.mark.parametrize("listed", [True, False], ids=("in-index", "not-in-index"))
def test_s1_scale_in_another_shard(tmp_path: Path, decode_checkpoint: Decode, listed: bool) -> None:
    codes, scale = weight(160, 192)
    tensors = {NAME: codes.view(torch.float8_e4m3fn), f"{NAME}_scale_inv": scale}
    testkit.write_checkpoint(
        tmp_path, tensors, {"quantization_config": FP8}, [[f"{NAME}_scale_inv"], [NAME]]
    )
    if not listed:
        index = tmp_path / "model.safetensors.index.json"
        shard = '"model-00002-of-00002.safetensors"'
        index.write_text(f'{{"weight_map": {{"{NAME}": {shard}}}}}')
    found = decode_checkpoint(tmp_path)
    assert list(found) == [NAME]
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (128, 128), torch.bfloat16))


def test_zero_blocks_with_zero_scales_decode_to_zero(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    codes, scale = weight(160, 192)
    codes[128:, :128], scale[1, 0] = 0x80, 0.0  # minus zero is a zero too
    found = decode_checkpoint(write(tmp_path, FP8, codes, "_scale_inv", scale))[NAME]
    assert torch.equal(found[128:, :128], torch.zeros(32, 128, dtype=torch.bfloat16))
    assert torch.equal(found, testkit.dequantize(codes, scale, (128, 128), torch.bfloat16))


@pytest.mark.parametrize(
    ("stored", "largest"),
    [(torch.float8_e4m3fnuz, 240.0), (torch.float8_e5m2, 57344.0)],
    ids=("e4m3fnuz", "e5m2"),
)
def test_other_encodings_by_their_header(
    tmp_path: Path, decode_checkpoint: Decode, stored: torch.dtype, largest: float
) -> None:
    values = torch.tensor([[largest, -largest, 1.0, 0.125]]).to(stored)
    tensors = {NAME: values, f"{NAME}_scale_inv": torch.tensor([[0.5]])}
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": FP8})
    assert decode_checkpoint(folder)[NAME].tolist() == [[largest / 2, -largest / 2, 0.5, 0.0625]]


def grids(shape: tuple[int, ...], block: tuple[int, int] | None) -> list[tuple[int, ...]]:
    codes = TensorInfo(NAME, "F8_E4M3", shape, "model.safetensors")
    return list(BlockFp8().layouts(Stored(NAME, codes, {}), Scheme(("block_fp8",), block)))


def test_scale_shape_is_the_ceiling_in_both_directions() -> None:
    assert grids((129, 129), (128, 64)) == [(2, 3)]
    assert grids((128, 128), (128, 64)) == [(1, 2)]
    assert grids((4, 1, 65), (128, 64)) == [(4, 1, 2)]


def test_block_scheme_without_block_size_is_refused() -> None:
    with pytest.raises(Unfit, match="block size"):
        grids((1, 1), None)


def test_fused_experts_smaller_than_a_block_keep_one_row_of_scales_for_gate_and_one_for_up(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    codes = torch.randint(0, 0x7F, (2, 64, 160), dtype=torch.uint8)
    scale = torch.rand(2, 2, 2) + 0.5
    tensors = {name: codes.view(torch.float8_e4m3fn), f"{name}_scale_inv": scale}
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": FP8})
    found = decode_checkpoint(folder)[name]
    for expert in range(2):
        for half in range(2):
            rows = slice(32 * half, 32 * half + 32)
            assert torch.equal(
                found[expert, rows],
                testkit.dequantize(
                    codes[expert, rows], scale[expert, half : half + 1], (32, 128), torch.bfloat16
                ),
            )
