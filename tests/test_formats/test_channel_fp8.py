# SPDX-License-Identifier: Apache-2.0
"""Per-channel fp8: row C1 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.formats.base import Scheme, Stored, Unfit
from vllm_ascend_bringup.formats.channel_fp8 import ChannelFp8

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
NAME = "model.layers.0.self_attn.o_proj.weight"
COMPRESSED: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "float-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
    }},
}  # fmt: skip
MODELOPT: "dict[str, Any]" = {
    "quant_method": "modelopt", "quant_algo": "FP8_PER_CHANNEL_PER_TOKEN",
}  # fmt: skip
FBGEMM: "dict[str, Any]" = {"quant_method": "fbgemm_fp8", "modules_to_not_convert": []}
QUARK: "dict[str, Any]" = {
    "quant_method": "quark",
    "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_channel"}},
}  # fmt: skip
FP8: "dict[str, Any]" = {"quant_method": "fp8", "activation_scheme": "dynamic"}


@pytest.mark.parametrize(
    "settings", [COMPRESSED, MODELOPT, FP8, FBGEMM, QUARK],
    ids=("ct", "modelopt", "fp8", "fbgemm", "quark"),
)  # fmt: skip
@pytest.mark.parametrize("trailing", [True, False], ids=("[N,1]", "[N]"))
@pytest.mark.parametrize("suffix", ["_scale", "_scale_inv"])
@pytest.mark.parametrize(
    "stored", [torch.float32, torch.bfloat16, torch.float16], ids=("F32", "BF16", "F16")
)
@pytest.mark.parametrize(("N", "K"), [(8, 16), (1, 130), (7, 1), (129, 33)], ids=str)
def test_c1_one_scale_per_row(
    tmp_path: Path,
    decode_checkpoint: Decode,
    settings: "dict[str, Any]",
    trailing: bool,
    suffix: str,
    stored: torch.dtype,
    N: int,
    K: int,
) -> None:
    codes, scale = testkit.quantize(torch.randn(N, K), (1, K))
    scale = scale.to(stored)
    tensors = {
        NAME: codes.view(torch.float8_e4m3fn),
        NAME + suffix: scale if trailing else scale[:, 0],
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
    found = decode_checkpoint(folder)
    assert list(found) == [NAME]
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (1, K), torch.bfloat16))


@pytest.mark.parametrize("stored", [torch.float8_e8m0fnu, torch.uint8], ids=("F8_E8M0", "U8"))
def test_e8m0_scale_per_row(tmp_path: Path, decode_checkpoint: Decode, stored: torch.dtype) -> None:
    codes = torch.full((3, 5), 0x38, dtype=torch.uint8)  # ones
    scale = torch.tensor([[126], [127], [129]], dtype=torch.uint8).view(stored)
    tensors = {NAME: codes.view(torch.float8_e4m3fn), f"{NAME}_scale": scale}
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": COMPRESSED})
    assert decode_checkpoint(folder)[NAME].tolist() == [[0.5] * 5, [1.0] * 5, [4.0] * 5]


@pytest.mark.parametrize("trailing", [True, False], ids=("[E,N,1]", "[E,N]"))
def test_fused_experts(tmp_path: Path, decode_checkpoint: Decode, trailing: bool) -> None:
    name = "model.layers.0.mlp.experts.down_proj"
    experts = [testkit.quantize(torch.randn(6, 9), (1, 9)) for _ in range(3)]
    scale = torch.stack([scale for _, scale in experts])
    tensors = {
        name: torch.stack([codes for codes, _ in experts]).view(torch.float8_e4m3fn),
        f"{name}_scale": scale if trailing else scale[..., 0],
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": COMPRESSED})
    found = decode_checkpoint(folder)[name]
    wanted = [testkit.dequantize(codes, s, (1, 9), torch.bfloat16) for codes, s in experts]
    assert torch.equal(found, torch.stack(wanted))


@pytest.mark.parametrize("dtype", ["F32", "BF16", "U8"])
@pytest.mark.parametrize("trailing", [True, False], ids=("[N,1]", "[N]"))
@pytest.mark.parametrize("shape", [(8, 16), (7, 33), (3, 5, 9), (1, 1)], ids=str)
def test_slices(check_format: Check, shape: tuple[int, ...], trailing: bool, dtype: str) -> None:
    made = format_kit.fp8(
        NAME, shape, (1, shape[-1]), scale=f"{NAME}_scale", dtype=dtype,
        stored=None if trailing else shape[:-1],
    )  # fmt: skip
    check_format(made | format_kit.dropped(NAME.replace("weight", "input_scale")), COMPRESSED)


def test_l1_static_activations_do_not_make_it_int8(check_format: Check) -> None:
    group = COMPRESSED["config_groups"]["group_0"]
    activations = {"num_bits": 8, "type": "float", "strategy": "tensor", "dynamic": False}
    static = {**COMPRESSED, "config_groups": {"a": {**group, "input_activations": activations}}}
    made = format_kit.fp8(NAME, (8, 16), (1, 16), scale=f"{NAME}_scale", dtype="BF16")
    check_format(made | format_kit.dropped(NAME.replace("weight", "input_scale")), static)


def test_as_compressed_tensors_dequantizes() -> None:
    forward = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    made = format_kit.fp8(NAME, (8, 16), (1, 16), scale=f"{NAME}_scale")
    wanted = forward.dequantize(made.tensors[NAME].float(), made.tensors[f"{NAME}_scale"])
    assert torch.equal(torch.from_numpy(made.wanted[NAME]), wanted)


def grids(shape: tuple[int, ...], bmm: bool = False) -> list[tuple[int, ...]]:
    codes = TensorInfo(NAME, "F8_E4M3", shape, "model.safetensors")
    return list(ChannelFp8().layouts(Stored(NAME, codes, {}, bmm), Scheme(("channel_fp8",))))


def test_accepted_shapes() -> None:
    assert grids((8, 16)) == [(8, 1), (8,)]
    assert grids((2, 8, 16)) == [(2, 8, 1), (2, 8)]


def test_names_that_mean_in_by_out_are_not_per_row() -> None:
    with pytest.raises(Unfit, match=r"\[E, out, in\]"):
        grids((2, 8, 16), bmm=True)
