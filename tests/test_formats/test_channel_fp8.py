# SPDX-License-Identifier: Apache-2.0
"""Per-channel fp8: row C1 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.channel_fp8 import ChannelFp8

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
FP8: "dict[str, Any]" = {"quant_method": "fp8", "activation_scheme": "dynamic"}


@pytest.mark.parametrize("settings", [COMPRESSED, MODELOPT, FP8], ids=("ct", "modelopt", "fp8"))
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


def test_accepted_shapes() -> None:
    scheme = Scheme(("channel_fp8",))
    assert ChannelFp8().scale_shapes((8, 16), scheme) == ((8, 1), (8,))
    assert ChannelFp8().scale_shapes((2, 8, 16), scheme) == ((2, 8, 1), (2, 8))
