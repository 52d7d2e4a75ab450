# SPDX-License-Identifier: Apache-2.0
"""Which tensor scales which weight, what is dropped (row K1) and what passes through (row S2)."""

from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.families.base import SchemeTable
from vllm_ascend_bringup.formats.pairing import decode_plan, refuse_low_precision
from vllm_ascend_bringup.formats.schemes import scheme_table

Decode = Callable[..., dict[str, torch.Tensor]]
FP8 = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def table(**settings: object) -> SchemeTable:
    made = scheme_table({"quant_method": "fp8", **settings})
    assert isinstance(made, SchemeTable)
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
    assert {name: p.stored.scale.name for name, p in plan.pairings.items()} == {
        "a.weight": "a.weight_scale_inv", "b.weight": "b.weight_scale_inv",
    }  # fmt: skip
    assert plan.scales == {"a.weight_scale_inv", "b.weight_scale_inv"}
    assert plan.dropped == frozenset()
    assert plan.pairings["a.weight"].layout.block == (128, 128)
    assert plan.pairings["a.weight"].layout.code_format == "e4m3fn"


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
    assert (pairing.format.id, pairing.layout.block) == (id_, block)


@pytest.mark.parametrize(
    "name",
    ["self_attn.k_proj.k_scale", "self_attn.v_proj.v_scale", "self_attn.kv_scale",
     "self_attn.attn.q_scale", "self_attn.k_zero_point", "self_attn.q_proj.input_scale",
     "self_attn.q_proj.activation_scale", "mlp.up_proj.input_scale_ub",
     "self_attn.k_proj.output_scale", "self_attn.prob_output_scale",
     "self_attn.qkv_proj.k_scale", "mixer.v_proj.v_scale", "self_attn.q.scale",
     "self_attn.k_cache.scale", "self_attn.v_cache.scale", "self_attn.v_zero_point",
     "self_attn.k_proj.k_bias", "self_attn.v_proj.v_bias", "mlp.up_proj.input_scale_2",
     "mlp.up_proj.input_global_scale", "mlp.up_proj.input_zero_point", "mlp.up_proj.azp_adj",
     "mlp.up_proj.input_amax", "mlp.experts.gate_up_proj_input_scale",
     "mlp.experts.down_proj_activation_scale", "attention.wq.qscale_act"],
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
        "model.layers.0.self_attn.k_proj.bias": torch.randn(4).bfloat16(),
        "model.layers.0.norm.scale": torch.randn(4),
        "model.layers.0.attn.scale": torch.randn(1),
        "model.layers.0.router_scales": torch.randn(4),
        "model.layers.0.hc_ffn_scale": torch.randn(3),
        "hc_head_scale": torch.randn(1),
        "model.mask.weight": torch.ones(3, dtype=torch.uint8),
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
    "name",
    ["altup.correct_output_scale", "router.scale", "router.per_expert_scale",
     "attn.per_dim_scale", "mlp.global_scale", "hc_attn_scale", "residual_scale",
     "mlp.input_hidden_states_scale", "hyper.hc_scale"],
)  # fmt: skip
def test_s2_parameters_of_models_that_are_called_scale(name: str) -> None:
    """Real ones (Gemma 3n, Gemma 4, Inkling, DeepSeek-V4, Zaya), beside a router of 16 bits."""
    name = f"model.layers.0.{name}"
    plan = decode_plan(
        {
            **infos(
                model__layers__0__router__proj__weight=("BF16", (8, 8)),
                a__weight=("F8_E4M3", (8, 8)), a__weight_scale=("F32", (1, 1)),
            ),
            name: TensorInfo(name, "BF16", (8,), "model.safetensors"),
        },
        BLOCK,
    )  # fmt: skip
    assert plan.dropped == frozenset()
    assert plan.scales == {"a.weight_scale"}


@pytest.mark.parametrize(
    "tensors",
    [
        pytest.param(infos(a__weight_scale_inv=("F32", (1, 1))), id="no-weight"),
        pytest.param(infos(a__weight_scale=("F32", (1, 1))), id="no-weight-other-spelling"),
        pytest.param(
            infos(a__weight=("BF16", (8, 8)), a__weight_scale=("F32", (1, 1))), id="bf16-weight"
        ),
        pytest.param(
            infos(a__weight=("I32", (8, 8)), a__weight_scale=("F32", (8, 1))), id="int32-weight"
        ),
        pytest.param(infos(a__weight=("BF16", (8, 8)), a__scale=("F32", (1, 1))), id="v4-spelling"),
        pytest.param(infos(a__qscale_weight=("F32", ())), id="mistral-spelling"),
        pytest.param(infos(a__weight_scale_2=("F32", ())), id="global-scale"),
        pytest.param(infos(a__weight_global_scale=("F32", (1,))), id="global-divisor"),
        pytest.param(infos(a__weight_zero_point=("I32", (1, 1))), id="zero-point"),
        pytest.param(infos(a__weight_shape=("I64", (2,))), id="shape"),
        pytest.param(infos(a_scales=("U8", (2, 8, 1))), id="scales-without-blocks"),
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
    scale = next(name for name in tensors if name != "a.weight" and name != "experts.up")
    assert scale in caught.value.found
    assert tensors[scale].shard in caught.value.found


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E8M0"])
@pytest.mark.parametrize("name", ["a.weight_scale", "a.scale", "experts.up_proj_weight_scale"])
def test_scale_of_low_precision_without_a_weight(name: str, dtype: str) -> None:
    with pytest.raises(FormatError) as caught:
        decode_plan({name: TensorInfo(name, dtype, (8, 2), "model-7.safetensors")}, BLOCK)
    assert name in caught.value.found
    assert "model-7.safetensors" in caught.value.found


SPELLINGS = ("weight_scale", "weight_scale_inv", "scale", "qscale_weight")


@pytest.mark.parametrize(("first", "second"), list(combinations(SPELLINGS, 2)), ids=str)
def test_two_spellings_of_one_scale_are_refused(first: str, second: str) -> None:
    tensors = infos(
        a__weight=("F8_E4M3", (8, 8)),
        **{f"a__{first}": ("F32", (1, 1)), f"a__{second}": ("F32", (1, 1))},
    )
    with pytest.raises(FormatError, match=r"a\.weight .* has two scales") as caught:
        decode_plan(tensors, BLOCK)
    assert f"a.{first}" in caught.value.found
    assert f"a.{second}" in caught.value.found


@pytest.mark.parametrize(
    ("suffix", "why"),
    [("pre_quant_scale", "smoothed"), ("svdquant_lora_a", "low-rank"),
     ("svdquant_lora_b", "low-rank"), ("weight_g_idx", "reordered"), ("qweight", "GPTQ or AWQ"),
     ("qzeros", "GPTQ or AWQ"), ("weight_offset", "ModelSlim"), ("quant_bias", "ModelSlim"),
     ("deq_scale", "ModelSlim")],
)  # fmt: skip
def test_more_than_codes_and_scales_is_refused(suffix: str, why: str) -> None:
    tensors = infos(
        a__weight=("F8_E4M3", (8, 8)), a__weight_scale=("F32", (1, 1)),
        **{f"b__{suffix}": ("F32", (8,))},
    )  # fmt: skip
    with pytest.raises(FormatError, match=rf"b\.{suffix} in model-2\.safetensors: .*{why}"):
        decode_plan(tensors, BLOCK)


def test_two_tensors_of_codes_for_one_weight_are_refused() -> None:
    made = scheme_table({"quant_method": "mxfp4"})
    assert isinstance(made, SchemeTable)
    tensors = infos(
        a__weight=("U8", (8, 16)), a__weight_packed=("U8", (8, 16)), a__weight_scale=("U8", (8, 1))
    )
    with pytest.raises(FormatError, match=r"decodes to a\.weight, which is also"):
        decode_plan(tensors, made)


MODELOPT = scheme_table({"quant_method": "modelopt", "quant_algo": "NVFP4"})


@pytest.mark.parametrize("partner", ["_scale_2", "_weight_scale_2"])
def test_packed_experts_with_a_global_scale_only_are_refused(partner: str) -> None:
    assert isinstance(MODELOPT, SchemeTable)
    tensors = infos(
        experts__up_proj=("U8", (2, 8, 16)), **{f"experts__up_proj{partner}": ("F32", (2,))}
    )
    with pytest.raises(FormatError, match=r"experts\.up_proj"):
        decode_plan(tensors, MODELOPT)


@pytest.mark.parametrize(
    ("settings", "tensors"),
    [
        pytest.param(
            {"quant_method": "modelopt", "quant_algo": "FP8"},
            infos(a__weight=("F8_E4M3", (8, 16)), a__weight_scale=("F32", ()),
                  a__weight_scale_2=("F32", ())),
            id="fp8",
        ),
        pytest.param(
            {"quant_method": "mxfp4"},
            infos(a__weight=("U8", (8, 16)), a__weight_scale=("U8", (8, 1)),
                  a__weight_scale_2=("F32", ())),
            id="mxfp4",
        ),
        pytest.param(
            {"quant_method": "compressed-tensors", "format": "mxfp4-pack-quantized",
             "config_groups": {"a": {"weights": {"num_bits": 4, "type": "float"}}}},
            infos(a__weight_packed=("U8", (8, 16)), a__weight_scale=("U8", (8, 1)),
                  a__weight_global_scale=("F32", (1,))),
            id="compressed-tensors",
        ),
    ],
)  # fmt: skip
def test_partner_that_the_format_does_not_know_is_refused(
    settings: dict[str, object], tensors: dict[str, TensorInfo]
) -> None:
    made = scheme_table(settings)
    assert isinstance(made, SchemeTable)
    with pytest.raises(FormatError) as caught:
        decode_plan(tensors, made)
    assert list(tensors)[-1] in caught.value.found
    assert "no global_scale" in caught.value.expected


def test_the_first_of_several_faults_is_named_the_same_every_time() -> None:
    tensors = infos(**{f"m{i}__weight_scale_inv": ("F32", (1, 1)) for i in range(40)})
    with pytest.raises(FormatError, match=r"scale m0\.weight_scale_inv in model-0"):
        decode_plan(tensors, BLOCK)


@pytest.mark.parametrize("dtype", ["I8", "U8"])
def test_packed_codes_where_the_settings_mean_fp8_are_refused(dtype: str) -> None:
    tensors = infos(a__weight=(dtype, (8, 8)), a__weight_scale=("F8_E4M3", (8, 1)))
    with pytest.raises(FormatError, match=rf"a\.weight \({dtype} \[8, 8\]\)") as caught:
        decode_plan(tensors, BLOCK)
    assert "F8_E4M3" in caught.value.expected
    assert "fp8 settings" in caught.value.expected


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
