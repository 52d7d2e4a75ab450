# SPDX-License-Identifier: Apache-2.0
"""Which tensor scales which weight, what is dropped (row K1) and what passes through (row S2)."""

from collections.abc import Callable
from pathlib import Path

import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.pairing import decode_plan, refuse_low_precision
from vllm_ascend_bringup.formats.schemes import SchemeTable, scheme_table

Decode = Callable[..., dict[str, torch.Tensor]]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def table(**settings: object) -> SchemeTable:
    made = scheme_table({"quant_method": "fp8", **settings})
    assert made is not None
    return made


def infos(**tensors: "tuple[str, tuple[int, ...]]") -> dict[str, TensorInfo]:
    """``a__b=(dtype, shape)`` as the tensor ``a.b``, each in a shard of its own."""
    made = {}
    for number, (key, (dtype, shape)) in enumerate(tensors.items()):
        name = key.replace("__", ".")
        made[name] = TensorInfo(name, dtype, shape, f"model-{number}.safetensors")
    return made


BLOCK = table(weight_block_size=[128, 128])


def test_each_weight_gets_its_own_scale_whatever_the_order() -> None:
    tensors = infos(
        b__weight_scale_inv=("F32", (1, 2)),
        a__weight=("F8_E4M3", (256, 128)),
        b__weight=("F8_E4M3", (128, 256)),
        a__weight_scale_inv=("BF16", (2, 1)),
        norm__weight=("BF16", (128,)),
    )
    plan = decode_plan(tensors, BLOCK)
    assert {name: p.scale.name for name, p in plan.pairings.items()} == {
        "a.weight": "a.weight_scale_inv", "b.weight": "b.weight_scale_inv",
    }  # fmt: skip
    assert plan.scales == {"a.weight_scale_inv", "b.weight_scale_inv"}
    assert plan.dropped == frozenset()
    assert plan.pairings["a.weight"].block == (128, 128)
    assert plan.pairings["a.weight"].code_format == "e4m3fn"


@pytest.mark.parametrize(
    ("scale", "id_", "block"),
    [((), "tensor_fp8", (8, 16)), ((1,), "tensor_fp8", (8, 16)), ((8, 1), "channel_fp8", (1, 16)),
     ((8,), "channel_fp8", (1, 16))],
    ids=str,
)  # fmt: skip
def test_without_block_size_the_scale_shape_decides(
    scale: tuple[int, ...], id_: str, block: tuple[int, int]
) -> None:
    tensors = infos(a__weight=("F8_E4M3", (8, 16)), a__weight_scale=("F32", scale))
    pairing = decode_plan(tensors, table()).pairings["a.weight"]
    assert (pairing.format.id, pairing.block) == (id_, block)


@pytest.mark.parametrize(
    "name",
    ["self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale", "self_attn.kv_scale",
     "self_attn.attn.q_scale", "self_attn.k_zero_point", "self_attn.q_proj.input_scale",
     "self_attn.q_proj.activation_scale", "mlp.up_proj.input_scale_ub",
     "self_attn.k_proj.output_scale", "self_attn.prob_output_scale"],
)  # fmt: skip
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=("F32", "BF16"))
def test_k1_activation_and_cache_scales_are_dropped(
    tmp_path: Path, decode_checkpoint: Decode, name: str, dtype: torch.dtype
) -> None:
    codes, scale = testkit.quantize(torch.randn(8, 16), (128, 128))
    tensors = {
        f"model.layers.0.{name}": torch.ones(1, dtype=dtype),
        "model.layers.0.self_attn.k_proj.weight": codes.view(torch.float8_e4m3fn),
        "model.layers.0.self_attn.k_proj.weight_scale_inv": scale,
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": FP8})
    assert list(decode_checkpoint(folder)) == ["model.layers.0.self_attn.k_proj.weight"]


def test_s2_everything_else_passes_byte_for_byte(tmp_path: Path, decode_checkpoint: Decode) -> None:
    kept = {
        "lm_head.weight": torch.randn(4, 8).bfloat16(),
        "model.norm.weight": torch.randn(8).bfloat16(),
        "model.layers.0.hc_attn_scale": torch.randn(3),
        "model.layers.0.attn_sink": torch.randn(4),
        "model.layers.0.mlp.gate.bias": torch.randn(4).half(),
        "model.layers.0.mlp.up_proj.bias": torch.randn(4).bfloat16(),
        "model.tid2eid": torch.randint(0, 99, (5,)),
        "model.logit_scale": torch.randn(()),
    }
    codes, scale = testkit.quantize(torch.randn(4, 8), (128, 128))
    weight = "model.layers.0.mlp.up_proj.weight"
    fp8 = {weight: codes.view(torch.float8_e4m3fn), f"{weight}_scale_inv": scale}
    folder = testkit.write_checkpoint(tmp_path, {**fp8, **kept}, {"quantization_config": FP8})
    found = decode_checkpoint(folder)
    assert set(found) == {weight, *kept}
    for name, tensor in kept.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param(infos(a__weight_scale_inv=("F32", (1, 1))), id="no-weight"),
        pytest.param(infos(a__weight_scale=("F32", (1, 1))), id="no-weight-other-spelling"),
        pytest.param(
            infos(a__weight=("BF16", (8, 8)), a__weight_scale=("F32", (1, 1))), id="bf16-weight"
        ),
        pytest.param(
            infos(a__weight=("U8", (8, 8)), a__weight_scale=("F8_E4M3", (8, 1))), id="packed-fp4"
        ),
        pytest.param(
            infos(experts__up=("BF16", (2, 8, 8)), experts__up_scale=("F32", (2, 1, 1))),
            id="name-without-weight",
        ),
        pytest.param(infos(experts__up_scale_inv=("F32", (2, 1, 1))), id="inv-is-always-a-scale"),
    ],
)
def test_scale_without_low_precision_weight(tensors: dict[str, TensorInfo]) -> None:
    with pytest.raises(FormatError, match="has no low-precision weight") as caught:
        decode_plan(tensors, BLOCK)
    (scale,) = (name for name in tensors if "_scale" in name)
    assert scale in caught.value.found
    assert tensors[scale].shard in caught.value.found


def test_the_first_of_several_faults_is_named_the_same_every_time() -> None:
    tensors = infos(**{f"m{i}__weight_scale_inv": ("F32", (1, 1)) for i in range(40)})
    with pytest.raises(FormatError, match=r"scale m0\.weight_scale_inv in model-0"):
        decode_plan(tensors, BLOCK)


@pytest.mark.parametrize("dtype", ["F8_E5M2FNUZ", "F8_E8M0", "F6_E2M3", "F6_E3M2", "F4"])
def test_low_precision_that_is_not_supported_is_refused(dtype: str) -> None:
    tensors = infos(a__weight=(dtype, (8, 8)), a__weight_scale=("F32", (1, 1)))
    with pytest.raises(FormatError, match="not supported") as caught:
        decode_plan(tensors, BLOCK)
    assert dtype in caught.value.found


@pytest.mark.parametrize("shape", [(), (8,), (2, 2, 2, 2)], ids=str)
def test_weight_that_is_no_matrix_is_refused(shape: tuple[int, ...]) -> None:
    tensors = infos(a__weight=("F8_E4M3", shape), a__weight_scale_inv=("F32", (1, 1)))
    with pytest.raises(FormatError, match="2-D or 3-D"):
        decode_plan(tensors, BLOCK)


def test_refuse_low_precision_names_dtypes_and_some_tensors() -> None:
    tensors = infos(
        a=("F8_E4M3", (2,)), b=("F4", (2,)), c=("F8_E4M3", (2,)), d=("F4", (2,)), e=("BF16", (2,))
    )
    with pytest.raises(FormatError, match="4 tensors of dtype F4, F8_E4M3") as caught:
        refuse_low_precision(tensors, "nobody decodes them")
    assert "(a, b, c and 1 more), but nobody decodes them" in caught.value.found


def test_refuse_low_precision_lets_a_dense_checkpoint_pass() -> None:
    tensors = infos(a=("BF16", (2,)), b=("I8", (2,)))
    refuse_low_precision(tensors, "nobody decodes them")
    assert decode_plan(tensors, BLOCK).pairings == {}
