# SPDX-License-Identifier: Apache-2.0
"""Per-tensor fp8: rows T1 and T2 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import testkit
import torch

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.tensor_fp8 import TensorFp8

Decode = Callable[..., dict[str, torch.Tensor]]
NAME = "model.layers.0.self_attn.q_proj.weight"
FP8: "dict[str, Any]" = {"quant_method": "fp8", "activation_scheme": "static"}
COMPRESSED: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "naive-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"], "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
    }},
}  # fmt: skip
MODELOPT: "dict[str, Any]" = {
    "producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"},
}  # fmt: skip


@pytest.mark.parametrize("settings", [FP8, COMPRESSED, MODELOPT], ids=("fp8", "ct", "modelopt"))
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=("[]", "[1]", "[1,1]"))
@pytest.mark.parametrize(
    "stored", [torch.float32, torch.bfloat16, torch.float16], ids=("F32", "BF16", "F16")
)
@pytest.mark.parametrize(("N", "K"), [(8, 16), (1, 1), (130, 7)], ids=str)
def test_t1_one_scale(
    tmp_path: Path,
    decode_checkpoint: Decode,
    settings: "dict[str, Any]",
    shape: tuple[int, ...],
    stored: torch.dtype,
    N: int,
    K: int,
) -> None:
    codes, scale = testkit.quantize(torch.randn(N, K), (N, K))
    scale = scale.to(stored)
    tensors = {
        NAME: codes.view(torch.float8_e4m3fn),
        f"{NAME}_scale": scale.reshape(shape),
        NAME.replace("weight", "input_scale"): torch.tensor(0.25),
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
    found = decode_checkpoint(folder)
    assert list(found) == [NAME]
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (N, K), torch.bfloat16))


def test_t2_mistral_spelling(tmp_path: Path, decode_checkpoint: Decode) -> None:
    codes, scale = testkit.quantize(torch.randn(8, 16), (8, 16))
    tensors = {
        NAME: codes.view(torch.float8_e4m3fn),
        f"{NAME}_scale_inv": scale.reshape(()),
        NAME.replace("weight", "activation_scale"): torch.tensor(0.25),
    }
    settings = {"quant_method": "fp8", "activation_scheme": "static", "weight_block_size": None}
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
    found = decode_checkpoint(folder)
    assert list(found) == [NAME]
    assert torch.equal(found[NAME], testkit.dequantize(codes, scale, (8, 16), torch.bfloat16))


@pytest.mark.parametrize("stored", [torch.float8_e8m0fnu, torch.uint8], ids=("F8_E8M0", "U8"))
def test_e8m0_scale(tmp_path: Path, decode_checkpoint: Decode, stored: torch.dtype) -> None:
    codes = torch.full((3, 5), 0x40, dtype=torch.uint8)  # twos
    tensors = {
        NAME: codes.view(torch.float8_e4m3fn),
        f"{NAME}_scale": torch.tensor([124], dtype=torch.uint8).view(stored),
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": COMPRESSED})
    assert decode_checkpoint(folder)[NAME].tolist() == [[0.25] * 5] * 3


@pytest.mark.parametrize(
    "shape", [(), (1,), (3,), (3, 1), (3, 1, 1)], ids=lambda s: f"[{','.join(map(str, s))}]"
)
def test_fused_experts_share_a_scale_or_have_their_own(
    tmp_path: Path, decode_checkpoint: Decode, shape: tuple[int, ...]
) -> None:
    name = "model.layers.0.mlp.experts.down_proj"
    codes = torch.randint(0, 0x7F, (3, 5, 7), dtype=torch.uint8)
    per_expert = torch.tensor([0.5, 0.3, 0.01])
    scale = per_expert.reshape(shape) if 3 in shape else per_expert[1].reshape(shape)
    tensors = {name: codes.view(torch.float8_e4m3fn), f"{name}_scale": scale}
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": COMPRESSED})
    used = per_expert if 3 in shape else per_expert[1].repeat(3)
    wanted = [
        testkit.dequantize(codes[e], used[e].reshape(1, 1), (5, 7), torch.bfloat16)
        for e in range(3)
    ]
    assert torch.equal(decode_checkpoint(folder)[name], torch.stack(wanted))


def test_accepted_shapes() -> None:
    scheme = Scheme(("tensor_fp8",))
    assert TensorFp8().scale_shapes((8, 16), scheme) == ((), (1,), (1, 1))
    assert TensorFp8().scale_shapes((2, 8, 16), scheme) == (
        (), (1,), (1, 1), (2, 1, 1), (2, 1), (2,),
    )  # fmt: skip
