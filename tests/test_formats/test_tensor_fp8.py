# SPDX-License-Identifier: Apache-2.0
"""Per-tensor fp8: rows T1, T2 and Q1 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Scheme, Stored
from vllm_ascend_bringup.formats.tensor_fp8 import TensorFp8

Check = Callable[..., None]
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
QUARK: "dict[str, Any]" = {
    "quant_method": "quark",
    "global_quant_config": {"weight": {"dtype": "fp8_e4m3", "qscheme": "per_tensor"}},
}  # fmt: skip


@pytest.mark.parametrize(
    "settings", [FP8, COMPRESSED, MODELOPT, QUARK], ids=("fp8", "ct", "modelopt", "quark")
)
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


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize("stored", [(), (1,)], ids=("[]", "[1]"))
@pytest.mark.parametrize("shape", [(8, 16), (7, 33), (1, 1)], ids=str)
def test_slices(
    check_format: Check, shape: tuple[int, int], stored: tuple[int, ...], dtype: str
) -> None:
    made = format_kit.fp8(NAME, shape, shape, scale=f"{NAME}_scale", dtype=dtype, stored=stored)
    check_format(made | format_kit.dropped(NAME.replace("weight", "input_scale")), FP8)


@pytest.mark.parametrize("stored", [(3,), (3, 1), (3, 1, 1), ()], ids=str)
@pytest.mark.parametrize("spelling", ["_scale", "_scale_inv", "_weight_scale"])
def test_slices_of_fused_experts(
    check_format: Check, stored: tuple[int, ...], spelling: str
) -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    made = format_kit.fp8(
        name, (3, 6, 8), (6, 8), scale=name + spelling, stored=stored, shared=not stored
    )
    check_format(made | format_kit.dropped(f"{name}_input_scale"), MODELOPT)


@pytest.mark.parametrize("experts", [1, 2, 3])
def test_fused_gate_and_up_have_a_scale_each(check_format: Check, experts: int) -> None:
    name = "model.layers.0.mlp.experts.gate_up_proj"
    made = format_kit.fp8(name, (experts, 10, 8), (5, 8), scale=f"{name}_scale_inv")
    assert made.tensors[f"{name}_scale_inv"].shape == (experts, 2, 1)
    activations = format_kit.Made({f"{name}_activation_scale": torch.ones(experts)}, {})
    check_format(made | activations, FP8)


@pytest.mark.parametrize(
    ("name", "weight"),
    [("gate_up_proj", (2, 7, 8)), ("down_proj", (2, 6, 8)), ("gate_up_proj", (6, 8))],
    ids=("odd-rows", "not-gate-and-up", "no-experts"),
)
def test_two_scales_for_one_matrix_are_refused(
    tmp_path: Path, decode_checkpoint: Decode, name: str, weight: tuple[int, ...]
) -> None:
    scale = f"model.layers.0.mlp.experts.{name}_scale_inv"
    tensors = {
        scale.removesuffix("_scale_inv"): torch.ones(weight).to(torch.float8_e4m3fn),
        scale: torch.ones(*weight[:-2], 2, 1),
    }
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": FP8})
    with pytest.raises(FormatError, match=scale):
        decode_checkpoint(tmp_path)


@pytest.mark.parametrize("settings", [FP8, {**FP8, "activation_scheme": "dynamic",
                         "weight_block_size": [128, 128]}], ids=("tensor", "block"))  # fmt: skip
@pytest.mark.parametrize("stored", [(1,), ()], ids=("[1]", "[]"))
def test_q1_shards_of_a_table_share_one_scale(
    check_format: Check, settings: "dict[str, Any]", stored: tuple[int, ...]
) -> None:
    table = "model.ngram_embedding"
    made, scale = format_kit.plain(), torch.tensor(0.0371).reshape(stored)
    for shard in range(3):
        name = f"{table}.shard_{shard}.weight"
        one = format_kit.fp8(name, (4 + shard, 8), (8, 8), scale=f"{table}.weight_scale")
        codes = format_kit.codes8(name, (4 + shard, 8))
        made |= format_kit.Made(
            {**one.tensors, f"{table}.weight_scale": scale},
            {name: format_kit.E4M3[codes] * scale.numpy()},
        )
    check_format(made, settings)


def test_q1_scale_in_another_shard_than_any_of_the_table(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    names = [f"ngram_embedding.shard_{i}.weight" for i in range(2)]
    codes = torch.full((4, 8), 0x38, dtype=torch.uint8).view(torch.float8_e4m3fn)
    tensors = {**dict.fromkeys(names, codes), "ngram_embedding.weight_scale": torch.tensor([0.5])}
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    testkit.write_checkpoint(
        tmp_path, tensors, {"quantization_config": FP8},
        [["ngram_embedding.weight_scale"], [names[0]], [names[1]]],
    )  # fmt: skip
    found = decode_checkpoint(tmp_path)
    assert {name: tensor.tolist() for name, tensor in found.items()} == dict.fromkeys(
        names, [[0.5] * 8] * 4
    )


def test_mistral_native_names(check_format: Check) -> None:
    wq = "layers.0.attention.wq"
    made = format_kit.fp8(f"{wq}.weight", (8, 16), (8, 16), scale=f"{wq}.qscale_weight", stored=())
    made |= format_kit.dropped(
        f"{wq}.qscale_act", "layers.0.attention.q_fake_quantizer.qscale_act",
        "layers.0.attention.kv_fake_quantizer.qscale_act",
    )  # fmt: skip
    check_format(made | format_kit.plain(norm__weight=torch.randn(4).bfloat16()), FP8)


def test_mistral_native_vector_is_per_row(check_format: Check) -> None:
    wq = "layers.0.attention.wq"
    made = format_kit.fp8(
        f"{wq}.weight", (8, 16), (1, 16), scale=f"{wq}.qscale_weight", stored=(8,)
    )
    check_format(made, FP8)


def test_as_transformers_dequantizes() -> None:
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    made = format_kit.fp8(NAME, (8, 16), (8, 16), scale=f"{NAME}_scale_inv", stored=())
    wanted = fp8.Fp8Dequantize(None)._dequantize_one(
        made.tensors[NAME], made.tensors[f"{NAME}_scale_inv"], torch.bfloat16
    )
    assert torch.equal(format_kit.rounded(made.wanted[NAME], torch.bfloat16), wanted)


def grids(name: str, shape: tuple[int, ...], bmm: bool = False) -> list[tuple[int, ...]]:
    codes = TensorInfo(name, "F8_E4M3", shape, "model.safetensors")
    return list(TensorFp8().layouts(Stored(name, codes, {}, bmm), Scheme(("tensor_fp8",))))


def test_accepted_shapes() -> None:
    fused = [(), (1,), (1, 1), (2, 1, 1), (2, 1), (2,)]
    assert grids(NAME, (8, 16)) == [(), (1,), (1, 1)]
    assert grids("experts.down_proj", (2, 8, 16)) == fused
    assert grids("experts.gate_up_proj", (2, 8, 16)) == [*fused, (2, 2, 1)]
    assert grids("experts.gate_up_proj", (2, 7, 16)) == fused  # no two halves
    assert grids("experts.gate_up_proj", (2, 8, 16), bmm=True) == fused  # halves are columns
