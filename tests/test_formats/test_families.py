# SPDX-License-Identifier: Apache-2.0
"""Quantization settings as exporters write them: what each module gets, what is left alone, why."""

from typing import Any

import pytest

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import QkvChunks, Scheme
from vllm_ascend_bringup.formats.families.base import LeftAlone, SchemeTable, config_facts
from vllm_ascend_bringup.formats.schemes import scheme_table

Settings = dict[str, Any]
BLOCK = Scheme(("block_fp8",), (128, 128))
CHANNEL, TENSOR = Scheme(("channel_fp8",)), Scheme(("tensor_fp8",))
MXFP8, MXFP4 = Scheme(("mxfp8",)), Scheme(("mxfp4",))
NVFP4, MODELOPT_NVFP4 = Scheme(("nvfp4",)), Scheme(("modelopt_nvfp4",))
MODELOPT_BLOCK = Scheme(("modelopt_block_fp8",))
HYBRID = Scheme(("block_fp8", "mxfp4", "modelopt_nvfp4"), (128, 128))
PLAIN_HYBRID = Scheme(("tensor_fp8", "channel_fp8", "mxfp4", "modelopt_nvfp4"))
FP8: Settings = {"quant_method": "fp8"}
FP8_BLOCK: Settings = {**FP8, "weight_block_size": [128, 128]}
MODULE = "model.layers.0.mlp.up_proj"


def table(settings: Settings, **config: object) -> SchemeTable:
    """What settings mean, if they are understood."""
    made = scheme_table(settings, config_facts(config))
    assert isinstance(made, SchemeTable), made
    return made


def left(settings: Settings) -> str:
    """Why settings are left alone."""
    made = scheme_table(settings)
    assert isinstance(made, LeftAlone), made
    return made.reason


def group(targets: object = ("Linear",), **weights: object) -> Settings:
    """One config group of compressed-tensors; fp8 per channel unless told."""
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", **weights}
    return {"targets": list(targets) if isinstance(targets, tuple) else targets, "weights": weights}


def compressed(*groups: object, **settings: object) -> Settings:
    named = {f"group_{number}": content for number, content in enumerate(groups)}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": named,
        **settings,
    }  # fmt: skip


def preset(name: str) -> Settings:
    return compressed(config_groups={name: ["Linear"]})


def fp4(size: int, **weights: object) -> Settings:
    strategy = "group" if size == 32 else "tensor_group"
    return group(num_bits=4, strategy=strategy, group_size=size, **weights)


def int_(**weights: object) -> Settings:
    return group(**{"type": "int", "num_bits": 4, "strategy": "group", "group_size": 32, **weights})


def mx8(**weights: object) -> Settings:
    return group(strategy="group", group_size=32, scale_dtype="torch.uint8", **weights)


def packed(group: "int | None", bits: int = 4, symmetric: bool = True) -> Scheme:
    return Scheme(("packed_int",), group=group, bits=bits, symmetric=symmetric)


def modelopt(algorithm: object, **more: object) -> Settings:
    return {"quant_method": "modelopt", "quant_algo": algorithm, **more}


def quark(weight: object, **more: object) -> Settings:
    return {"quant_method": "quark", "global_quant_config": {"weight": weight}, **more}


def fp8_spec(qscheme: str, **more: object) -> Settings:
    return {"dtype": "fp8_e4m3", "qscheme": qscheme, "is_dynamic": False, **more}


FP4_SPEC: Settings = {"dtype": "fp4", "qscheme": "per_group", "group_size": 32}
NV_SPEC = [{**FP4_SPEC, "group_size": 16}, fp8_spec("per_tensor")]

UNDERSTOOD: "dict[str, tuple[Settings, str, Scheme]]" = {
    "fp8-block": (FP8_BLOCK, "fp8", BLOCK),
    "fp8-upper-case": ({**FP8_BLOCK, "quant_method": "FP8"}, "fp8", BLOCK),
    "fp8-block-is-a-tuple": ({**FP8_BLOCK, "weight_block_size": (128, 128)}, "fp8", BLOCK),
    "fp8-block-is-a-string": ({**FP8_BLOCK, "weight_block_size": "128x128"}, "fp8", BLOCK),
    "fp8-scale-fmt-is-ignored": ({**FP8_BLOCK, "scale_fmt": "ue8m0"}, "fp8", BLOCK),
    "fp8-block-32": ({**FP8, "weight_block_size": [32, 32]}, "fp8",
        Scheme(("block_fp8",), (32, 32))),
    "fp8-without-block": ({**FP8, "activation_scheme": "static"}, "fp8",
        Scheme(("tensor_fp8", "channel_fp8"))),
    "fp8-block-is-null": ({**FP8, "weight_block_size": None}, "fp8",
        Scheme(("tensor_fp8", "channel_fp8"))),
    "fp8-method-of-deepseek-v4": ({**FP8_BLOCK, "quant_method": "deepseek_v4_fp8"}, "fp8", BLOCK),
    "fp8-skip-list-is-advisory": (
        {**FP8_BLOCK, "ignored_layers": [MODULE], "modules_to_not_convert": [MODULE]},
        "fp8", BLOCK),
    "hybrid-key-is-null": ({**FP8_BLOCK, "expert_dtype": None}, "fp8", BLOCK),
    "hybrid-fp4-experts": ({**FP8_BLOCK, "expert_dtype": "fp4"}, "fp8", HYBRID),
    "hybrid-fp8-experts": ({**FP8_BLOCK, "expert_dtype": "fp8"}, "fp8", HYBRID),
    "hybrid-nvfp4-experts": (
        {**FP8_BLOCK, "moe_quant_algo": "NVFP4", "quant_algo": "MIXED_PRECISION"}, "fp8", HYBRID),
    "hybrid-mxfp4-experts": (
        {**FP8_BLOCK, "routed_experts_quant_method": "mxfp4"}, "fp8", HYBRID),
    "hybrid-mimo": ({**FP8_BLOCK, "store_dtype": "mxfp4"}, "fp8", HYBRID),
    "hybrid-mimo-nvfp4": ({**FP8_BLOCK, "store_dtype": "nvfp4"}, "fp8", HYBRID),
    "hybrid-without-block": ({**FP8, "expert_dtype": "fp4"}, "fp8", PLAIN_HYBRID),
    "hybrid-dense-mxfp8": ({**FP8_BLOCK, "dense_format": "mxfp8", "store_dtype": "nvfp4"}, "fp8",
        Scheme(("mxfp8", "block_fp8", "mxfp4", "modelopt_nvfp4"), (128, 128))),
    "ct-channel": (compressed(group()), "compressed-tensors", CHANNEL),
    "ct-underscore": (compressed(group(), quant_method="compressed_tensors"),
        "compressed-tensors", CHANNEL),
    "ct-tensor": (compressed(group(strategy="tensor")), "compressed-tensors", TENSOR),
    "ct-block": (compressed(group(strategy="block", block_structure=[128, 128])),
        "compressed-tensors", BLOCK),
    "ct-block-string": (compressed(group(strategy="block", block_structure="128x128")),
        "compressed-tensors", BLOCK),
    "ct-naive": (compressed(group(), format="naive-quantized"), "compressed-tensors", CHANNEL),
    "ct-format-per-group": (
        compressed({**group(), "format": "naive-quantized"}, format="mixed-precision"),
        "compressed-tensors", CHANNEL),
    "ct-no-format": (compressed(group(), format=None), "compressed-tensors", CHANNEL),
    "ct-dense": (compressed(group(), format="dense"), "compressed-tensors", CHANNEL),
    "ct-without-targets": (compressed({**group(), "targets": None}), "compressed-tensors", CHANNEL),
    # Static int8-looking activations must not lead to W8A8 (row L1).
    "ct-channel-with-static-activations": (
        compressed({**group(), "input_activations": {"num_bits": 8, "type": "float",
                    "strategy": "tensor", "dynamic": False}}),
        "compressed-tensors", CHANNEL),
    "ct-group": (compressed(group(strategy="group", group_size=64)),
        "compressed-tensors", Scheme(("group_fp8",), group=64)),
    "ct-group-of-exponents": (compressed(mx8()), "compressed-tensors", MXFP8),
    "ct-mxfp8": (compressed(mx8(), format="mxfp8-quantized"), "compressed-tensors", MXFP8),
    "ct-mxfp4": (compressed(fp4(32), format="mxfp4-pack-quantized"), "compressed-tensors", MXFP4),
    "ct-mxfp4-no-format": (compressed(fp4(32), format=None), "compressed-tensors", MXFP4),
    "ct-nvfp4": (compressed(fp4(16), format="nvfp4-pack-quantized"), "compressed-tensors", NVFP4),
    "ct-nvfp4-no-format": (compressed(fp4(16), format=None), "compressed-tensors", NVFP4),
    "ct-int4": (compressed(int_(), format="pack-quantized"), "compressed-tensors", packed(32)),
    "ct-int4-asymmetric": (compressed(int_(symmetric=False), format="pack-quantized"),
        "compressed-tensors", packed(32, symmetric=False)),
    "ct-int4-channel": (
        compressed(int_(strategy="channel", group_size=None), format="pack-quantized"),
        "compressed-tensors", packed(None)),
    "ct-int8-weight-only": (
        compressed(int_(num_bits=8, strategy="channel"), format="pack-quantized"),
        "compressed-tensors", packed(None, 8)),
    "ct-int4-actorder-weight": (compressed(int_(actorder="weight"), format="pack-quantized"),
        "compressed-tensors", packed(32)),
    "ct-int4-no-format": (compressed(int_(), format=None), "compressed-tensors", packed(32)),
    "preset-FP8": (preset("FP8"), "compressed-tensors", TENSOR),
    "preset-FP8_DYNAMIC": (preset("FP8_DYNAMIC"), "compressed-tensors", CHANNEL),
    "preset-FP8_BLOCK": (preset("FP8_BLOCK"), "compressed-tensors", BLOCK),
    "preset-lower-case": (preset("fp8_block"), "compressed-tensors", BLOCK),
    "preset-MXFP8": (preset("MXFP8"), "compressed-tensors", MXFP8),
    "preset-MXFP8A16": (preset("MXFP8A16"), "compressed-tensors", MXFP8),
    "preset-MXFP4": (compressed(config_groups={"MXFP4": ["Linear"]}, format=None),
        "compressed-tensors", MXFP4),
    "preset-NVFP4A16": (compressed(config_groups={"NVFP4A16": ["Linear"]}, format=None),
        "compressed-tensors", NVFP4),
    "preset-W4A16": (compressed(config_groups={"W4A16": ["Linear"]}, format="pack-quantized"),
        "compressed-tensors", packed(128)),
    "preset-W4A16_ASYM": (
        compressed(config_groups={"W4A16_ASYM": ["Linear"]}, format="pack-quantized"),
        "compressed-tensors", packed(128, symmetric=False)),
    "preset-W8A16": (compressed(config_groups={"W8A16": ["Linear"]}, format="pack-quantized"),
        "compressed-tensors", packed(None, 8)),
    "modelopt": (modelopt("fp8"), "modelopt", TENSOR),
    "modelopt-file": ({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
        "modelopt", TENSOR),
    "modelopt-file-without-producer": ({"quantization": {"quant_algo": "FP8"}}, "modelopt", TENSOR),
    "modelopt-producer-only": ({"producer": {"name": "modelopt"}, "quant_algo": "FP8"},
        "modelopt", TENSOR),
    "modelopt-channel": (modelopt("FP8_PER_CHANNEL_PER_TOKEN"), "modelopt",
        Scheme(("channel_fp8", "column_fp8"))),
    "modelopt-block": (modelopt("fp8_pb_wo"), "modelopt", MODELOPT_BLOCK),
    "modelopt-block-alias": (modelopt("FP8_BLOCK_SCALES"), "modelopt", MODELOPT_BLOCK),
    "modelopt-mxfp8": (modelopt("MXFP8", quant_method="modelopt_mxfp8"), "modelopt", MXFP8),
    "modelopt-nvfp4": (modelopt("NVFP4", quant_method="modelopt_fp4"), "modelopt", MODELOPT_NVFP4),
    "modelopt-nvfp4-weight-only": (modelopt("W4A16_NVFP4"), "modelopt", MODELOPT_NVFP4),
    "modelopt-nvfp4-fp8": (modelopt("W4A8_NVFP4_FP8"), "modelopt", MODELOPT_NVFP4),
    "modelopt-mxfp4-fp8": (modelopt("W4A8_MXFP4_FP8"), "modelopt", MXFP4),
    "fbgemm": ({"quant_method": "fbgemm_fp8", "modules_to_not_convert": []}, "fbgemm_fp8", CHANNEL),
    "mxfp8": ({"quant_method": "mxfp8", "ignored_layers": []}, "mxfp8", MXFP8),
    "mxfp4": ({"quant_method": "mxfp4"}, "mxfp4", Scheme(("gpt_oss_mxfp4", "mxfp4"))),
    "gpt-oss": ({"quant_method": "gpt_oss_mxfp4"}, "gpt-oss-mxfp4", Scheme(("gpt_oss_mxfp4",))),
    "quark-tensor": (quark(fp8_spec("per_tensor")), "quark", TENSOR),
    "quark-channel": (quark(fp8_spec("per_channel", ch_axis=0)), "quark", CHANNEL),
    "quark-block": (quark(fp8_spec("per_block", block_size=[128, 128])), "quark", BLOCK),
    "quark-mxfp8": (quark(fp8_spec("per_group", group_size=32, scale_format="e8m0")),
        "quark", MXFP8),
    "quark-mxfp8-2d": (quark(fp8_spec("per_block", block_size=[32, 32])), "quark",
        Scheme(("block_fp8",), (32, 32))),
    "quark-group": (quark(fp8_spec("per_group", group_size=64)), "quark",
        Scheme(("group_fp8",), group=64)),
    "quark-mxfp4": (quark(FP4_SPEC), "quark", MXFP4),
    "quark-mxfp4-in-a-list": (quark([FP4_SPEC]), "quark", MXFP4),
    "quark-nvfp4": (quark(NV_SPEC), "quark", MODELOPT_NVFP4),
}  # fmt: skip


@pytest.mark.parametrize("case", UNDERSTOOD)
def test_understood_settings(case: str) -> None:
    settings, family, scheme = UNDERSTOOD[case]
    made = table(settings)
    assert made.family == family
    assert made.schemes(MODULE) == (scheme,)
    assert set(scheme.formats) <= made.formats


LEFT: "dict[str, tuple[Settings, str]]" = {
    "empty": ({}, "method unnamed"),
    "null": ({"quant_method": None}, "method unnamed"),
    "modelslim": ({"quant_method": "ascend"}, "method ascend"),
    "awq": ({"quant_method": "awq"}, "method awq"),
    "other-producer": ({"producer": {"name": "quark"}}, "method unnamed"),
    "modelopt-without-algorithm": ({"quant_method": "modelopt"}, "quant_algo missing"),
    "modelopt-null": (modelopt(None), "quant_algo missing"),
    "modelopt-awq": (modelopt("NVFP4_AWQ"), "NVFP4_AWQ"),
    "modelopt-int4-awq": (modelopt("W4A16_AWQ"), "W4A16_AWQ"),
    "modelopt-svd": (modelopt("NVFP4_SVD"), "NVFP4_SVD"),
    "modelopt-mixed-awq": (
        modelopt("MIXED_PRECISION", quantized_layers={"a": {"quant_algo": "W4A8_AWQ"}}),
        "W4A8_AWQ of a"),
    "modelopt-mixed-none": (
        modelopt("MIXED_PRECISION", quantized_layers={"a": {"quant_algo": None}}),
        "quantize no weights"),
    "ct-int8": (compressed(group(type="int"), format="int-quantized"), "int8"),
    "ct-int8-naive": (compressed(group(type="int"), format="naive-quantized"), "int8"),
    "ct-int4-with-activations": (
        compressed({**int_(), "input_activations": {"num_bits": 8}}, format=None), "int4"),
    "ct-int4-actorder": (compressed(int_(actorder="group"), format="pack-quantized"), "actorder"),
    "ct-int8-preset": (compressed(config_groups={"W8A8": ["Linear"]}, format="int-quantized"),
        "int8"),
    "ct-w4a8-preset": (compressed(config_groups={"W4A8": ["Linear"]}, format=None), "int4"),
    "ct-rotated": (compressed(group(), transform_config={"R1": {}}), "rotated"),
    "ct-sparse": (compressed(group(), sparsity_config={"format": "x"}), "sparse"),
    "ct-kv-cache-only": (compressed(group(("LlamaAttention",))), "quantize no weights"),
    "ct-activations-only": (compressed({"targets": ["Linear"], "weights": None}),
        "quantize no weights"),
    "quark-int4": (quark({"dtype": "int4", "qscheme": "per_group", "group_size": 128}), "int4"),
    "quark-mxfp6": (quark({**FP4_SPEC, "dtype": "fp6_e3m2"}), "fp6_e3m2"),
    "quark-int4-in-fp8": (quark([fp8_spec("per_tensor"), {"dtype": "int4"}]), "fp8_e4m3 + int4"),
    "quark-int8": (quark({"dtype": "int8", "qscheme": "per_channel"}), "int8"),
    "quark-qscheme": (quark(fp8_spec("per_token")), "per_token"),
    "quark-fp4-group-16": (quark({**FP4_SPEC, "group_size": 16}), "fp4"),
    "quark-without-weights": (quark(None), "quantize no weights"),
    "quark-empty": ({"quant_method": "quark"}, "quantize no weights"),
    "quark-one-layer-of-two": (quark(FP4_SPEC, layer_quant_config={"*q": {"weight":
        {"dtype": "int4"}}}), "int4"),
}  # fmt: skip


@pytest.mark.parametrize("case", LEFT)
def test_settings_left_alone_and_why(case: str) -> None:
    settings, reason = LEFT[case]
    assert reason in left(settings)


REFUSED: "dict[str, tuple[Settings, str, str]]" = {
    "static-activations-over-blocks": ({**FP8_BLOCK, "activation_scheme": "static"},
        "activation_scheme static", "dynamic"),
    "expert-dtype": ({**FP8_BLOCK, "expert_dtype": "fp6"}, "expert_dtype 'fp6'", "fp4 or fp8"),
    "store-dtype": ({**FP8_BLOCK, "store_dtype": "int4"}, "store_dtype 'int4'", "mxfp4 or nvfp4"),
    "routed-experts": ({**FP8_BLOCK, "routed_experts_quant_method": "awq"}, "'awq'", "mxfp4"),
    "moe-algorithm": ({**FP8_BLOCK, "moe_quant_algo": "W4A8"}, "'W4A8'", "NVFP4 or MXFP4"),
    "dense-format": ({**FP8_BLOCK, "dense_format": "int8"}, "dense_format 'int8'", "mxfp8"),
    "ct-no-groups": (compressed(), "without config_groups", "at least one group"),
    "ct-groups-are-a-list": (compressed(config_groups=[group()]), "config_groups", "one group"),
    "ct-group-is-a-string": (compressed("Linear"), "'group_0' is malformed", "targets"),
    "ct-weights-are-a-list": (compressed({"targets": ["Linear"], "weights": [8]}),
        "'group_0' is malformed", "weights"),
    "ct-list-that-is-no-preset": (compressed(["Linear"]), "'group_0' without weights", "FP8_BLOCK"),
    "ct-targets-are-a-string": (compressed(group(targets="Linear")), "malformed", "targets"),
    "ct-targets-are-a-number": (compressed(group(targets=7)), "malformed", "targets"),
    "ct-4-bit-float": (compressed(group(num_bits=4)), "'float-quantized' of 4-bit float",
        "support table"),
    "ct-format": (compressed(group(), format="marlin-24"), "'marlin-24'", "support table"),
    "ct-fp8-packed": (compressed(group(), format="pack-quantized"), "8-bit float", "support table"),
    "ct-3-bit": (compressed(int_(num_bits=3), format="pack-quantized"), "num_bits 3", "4 or 8"),
    "ct-packed-per-tensor": (compressed(int_(strategy="tensor"), format="pack-quantized"),
        "'tensor'", "group or channel"),
    "ct-no-strategy": (compressed(group(strategy=None)), "strategy", "tensor, channel"),
    "ct-one-group-of-two": (compressed(group(), group(num_bits=4)), "4-bit", "support table"),
    "ct-block-without-structure": (compressed(group(strategy="block")), "block size None",
        "two positive"),
    "ct-group-size-zero": (compressed(int_(group_size=0), format="pack-quantized"),
        "group size 0", "positive"),
    "ct-group-size-fraction": (compressed(group(strategy="group", group_size=1.5)),
        "group size 1.5", "positive"),
    "ct-group-size-word": (compressed(group(strategy="group", group_size="32")),
        "group size '32'", "positive"),
    "ct-bad-pattern": (compressed(group(("re:[",))), "re:[", "regular expression"),
    "modelopt-mixed-without-layers": (modelopt("MIXED_PRECISION"),
        "without quantized_layers", "quant_algo"),
    "modelopt-mixed-empty": (modelopt("MIXED_PRECISION", quantized_layers={}),
        "without quantized_layers", "quant_algo"),
    "modelopt-mixed-a-list": (modelopt("MIXED_PRECISION", quantized_layers=["a"]),
        "without quantized_layers", "quant_algo"),
    "quark-block-size": (quark(fp8_spec("per_block")), "block size None", "two positive"),
    "quark-group-size": (quark({**FP4_SPEC, "group_size": -3}), "group size -3", "positive"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_settings_that_contradict_themselves_are_refused(case: str) -> None:
    settings, found, expected = REFUSED[case]
    with pytest.raises(FormatError) as caught:
        scheme_table(settings)
    assert found in caught.value.found.replace("'re:['", "re:[")
    assert expected in caught.value.expected


@pytest.mark.parametrize(
    "size",
    [[128], [128, 128, 128], [128, 0], [-128, 128], [128.0, 128], ["a", "b"], "128", "128*128",
     128, 0, [], {}, [None, 128], [True, True]],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("family", ["fp8", "compressed-tensors", "quark"])
def test_block_size_that_is_not_two_positive_numbers(family: str, size: object) -> None:
    settings = {
        "fp8": {"quant_method": "fp8", "weight_block_size": size},
        "compressed-tensors": compressed(group(strategy="block", block_structure=size)),
        "quark": quark(fp8_spec("per_block", block_size=size)),
    }[family]
    with pytest.raises(FormatError, match="two positive whole numbers") as caught:
        scheme_table(settings)
    assert repr(size) in caught.value.found


# What the model's config says beside the settings.


@pytest.mark.parametrize(
    ("config", "scheme"),
    [
        pytest.param({"expert_dtype": "fp4"}, HYBRID, id="top-level"),
        pytest.param({"text_config": {"expert_dtype": "fp4"}}, HYBRID, id="text-config"),
        pytest.param({"model_type": "deepseek_v4"}, HYBRID, id="deepseek-v4-by-default"),
        pytest.param({"model_type": "deepseek_v41"}, HYBRID, id="deepseek-v41-by-default"),
        pytest.param({"model_type": "deepseek_v3"}, BLOCK, id="deepseek-v3"),
        pytest.param({"routed_experts_quant_method": "mxfp4"}, HYBRID, id="ling"),
    ],
)
def test_side_keys_of_the_model(config: Settings, scheme: Scheme) -> None:
    assert table(FP8_BLOCK, **config).schemes("layers.0.ffn.experts.1.w1") == (scheme,)


def test_unknown_side_key_of_the_model_is_refused() -> None:
    with pytest.raises(FormatError, match="expert_dtype 'int4'"):
        scheme_table(FP8_BLOCK, {"expert_dtype": "int4"})


MIMO: Settings = {
    "model_type": "mimo_v2_flash", "num_attention_heads": 64, "num_key_value_heads": 4,
    "head_dim": 192, "v_head_dim": 128, "swa_num_attention_heads": 64,
    "swa_num_key_value_heads": 8, "swa_head_dim": 192, "swa_v_head_dim": 128,
}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "chunks"),
    [
        pytest.param(MIMO, QkvChunks(4, ((3072, 192, 128), (3072, 384, 256))), id="both-kinds"),
        pytest.param({"text_config": MIMO}, QkvChunks(4, ((3072, 192, 128), (3072, 384, 256))),
                     id="text-config"),
        pytest.param({k: v for k, v in MIMO.items() if "swa" not in k},
                     QkvChunks(4, ((3072, 192, 128),)), id="one-kind"),
        pytest.param({k: v for k, v in MIMO.items() if "swa" not in k and k != "v_head_dim"},
                     QkvChunks(4, ((3072, 192, 192),)), id="v-as-wide-as-k"),
        pytest.param({**MIMO, "swa_num_key_value_heads": 4}, QkvChunks(4, ((3072, 192, 128),)),
                     id="kinds-agree"),
    ],
)  # fmt: skip
def test_chunks_of_mimo(config: Settings, chunks: QkvChunks) -> None:
    made = table(FP8_BLOCK, **config)
    wanted = Scheme(("chunked_qkv_fp8",), (128, 128), chunks=chunks)
    assert made.schemes("model.layers.0.self_attn.qkv_proj") == (wanted,)
    assert made.schemes("model.layers.0.self_attn.o_proj") == (BLOCK,)
    assert "chunked_qkv_fp8" in made.formats


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        pytest.param(FP8_BLOCK, {**MIMO, "model_type": "qwen3"}, id="other-model"),
        pytest.param(FP8, MIMO, id="no-blocks"),
    ],
)
def test_no_chunks(settings: Settings, config: Settings) -> None:
    made = table(settings, **config)
    assert "chunked_qkv_fp8" not in made.formats
    assert made.schemes("model.layers.0.self_attn.qkv_proj") == made.default


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"model_type": "mimo_v2"}, id="no-heads"),
        pytest.param({**MIMO, "num_key_value_heads": 7}, id="heads-do-not-divide"),
        pytest.param({**MIMO, "num_key_value_heads": "4"}, id="not-a-number"),
    ],
)
def test_chunks_that_the_config_does_not_tell_are_not_taken_for_a_plain_weight(
    config: Settings,
) -> None:
    made = table(FP8_BLOCK, **config)
    (scheme,) = made.schemes("model.layers.0.self_attn.qkv_proj")
    assert (scheme.formats, scheme.chunks) == (("chunked_qkv_fp8",), None)


def test_facts_of_a_config_are_only_what_families_read() -> None:
    config = {**MIMO, "hidden_size": 64, "text_config": {"head_dim": 96, "v_head_dim": None}}
    assert config_facts(config) == {
        **{k: v for k, v in MIMO.items() if k != "v_head_dim"}, "head_dim": 96,
    }  # fmt: skip


# Which module gets which scheme.


@pytest.mark.parametrize(
    ("module", "scheme"),
    [
        pytest.param("ngram_embedding.shard_0", TENSOR, id="n-gram-table"),
        pytest.param("model.ngram_embedding.shard_12", TENSOR, id="n-gram-table-12"),
        pytest.param("model.ngram_embedding.shard_x", BLOCK, id="not-a-number"),
        pytest.param("model.shard_0.up_proj", BLOCK, id="not-at-the-end"),
    ],
)
def test_shards_of_a_table_share_one_scale_even_under_block_fp8(
    module: str, scheme: Scheme
) -> None:
    assert table(FP8_BLOCK).schemes(module) == (scheme,)


@pytest.mark.parametrize(
    ("module", "scheme"),
    [
        ("model.layers.1.feed_forward.experts.gate_up_proj", Scheme(("column_fp8",))),
        ("model.layers.1.feed_forward.experts.down_proj", Scheme(("column_fp8",))),
        ("model.layers.1.feed_forward.experts.0.down_proj", CHANNEL),
        ("model.layers.1.feed_forward.shared_expert.down_proj", CHANNEL),
        ("model.layers.1.self_attn.q_proj", CHANNEL),
    ],
)
def test_fused_experts_of_fbgemm(module: str, scheme: Scheme) -> None:
    assert table({"quant_method": "fbgemm_fp8"}).schemes(module) == (scheme,)


TWO_GROUPS = compressed(
    group(("re:.*self_attn.*", "model.layers.9.mlp.up_proj"), strategy="tensor"),
    group(("Linear",), strategy="channel"),
    group(("lm_head",), strategy="block", block_structure=[64, 64]),
)


@pytest.mark.parametrize(
    ("module", "scheme"),
    [
        pytest.param("model.layers.0.self_attn.q_proj", TENSOR, id="pattern"),
        pytest.param("model.layers.9.mlp.up_proj", TENSOR, id="exact-name"),
        pytest.param("model.layers.8.mlp.up_proj", CHANNEL, id="class-is-all-the-rest"),
        pytest.param("lm_head", Scheme(("block_fp8",), (64, 64)), id="name-without-a-dot"),
    ],
)
def test_name_comes_before_class(module: str, scheme: Scheme) -> None:
    assert table(TWO_GROUPS).schemes(module) == (scheme,)


def test_patterns_match_from_the_start_of_the_name_and_the_first_one_wins() -> None:
    made = table(
        compressed(
            group(("re:self_attn", r"re:.*\.experts\."), strategy="tensor"),
            group(("re:self_attn.q",), strategy="block", block_structure=[64, 64]),
            group(("Linear",)),
        )
    )
    assert made.schemes("model.self_attn") == (CHANNEL,)
    assert made.schemes("self_attn.q") == (TENSOR,)
    assert made.schemes("model.experts.0.up_proj") == (TENSOR,)


def test_without_a_class_target_all_groups_are_tried_in_the_order_of_the_config() -> None:
    made = table(
        compressed(group(("re:a",), strategy="tensor"), group(("re:b",)), group(("x.qkv_proj",)))
    )
    assert made.schemes("x.qkv_proj") == (CHANNEL,)
    assert made.schemes("x.q_proj") == (CHANNEL, TENSOR)


def test_of_two_class_targets_both_are_tried_the_last_first() -> None:
    made = table(compressed(group(strategy="tensor"), group(("Linear", "Conv2d")), group()))
    assert made.schemes("c") == (CHANNEL, TENSOR)


def test_format_per_group() -> None:
    made = table(
        compressed(
            {**fp4(16, scale_dtype="torch.float8_e4m3fn"), "targets": ["re:.*experts.*"],
             "format": "nvfp4-pack-quantized"},
            {**mx8(), "targets": ["re:.*self_attn.*"], "format": "mxfp8-quantized"},
            {**int_(), "targets": ["lm_head"], "format": "pack-quantized"},
            {**group(), "format": "float-quantized"},
            format="mixed-precision",
        )
    )  # fmt: skip
    assert made.schemes("model.layers.0.mlp.experts.3.up_proj") == (NVFP4,)
    assert made.schemes("model.layers.0.self_attn.o_proj") == (MXFP8,)
    assert made.schemes("lm_head") == (packed(32),)
    assert made.schemes(MODULE) == (CHANNEL,)
    assert made.formats == {"nvfp4", "mxfp8", "packed_int", "channel_fp8"}


def test_groups_of_the_kv_cache_do_not_count() -> None:
    kv = {"targets": ["LlamaAttention"], "weights": None, "output_activations": {"num_bits": 8}}
    assert table(compressed(kv, group())).schemes(MODULE) == (CHANNEL,)


MIXED: Settings = {
    "a.q_proj": {"quant_algo": "FP8"},
    "a.up_proj": {"quant_algo": "nvfp4", "group_size": 16},
    "a.o_proj": "MXFP8",
    "a.experts.*": {"quant_algo": "W4A16_NVFP4"},
    "lm_head": {"quant_algo": None},
}


@pytest.mark.parametrize(
    "settings",
    [modelopt("MIXED_PRECISION", quantized_layers=MIXED),
     modelopt("mixed_precision", quantized_layers=MIXED, quant_method="modelopt_mixed"),
     {"producer": {"name": "modelopt"},
      "quantization": {"quant_algo": "MIXED_PRECISION", "quantized_layers": MIXED}}],
    ids=("flat", "lower-case", "file"),
)  # fmt: skip
def test_modelopt_mixed_gives_each_module_its_own(settings: Settings) -> None:
    made = table(settings)
    assert made.schemes("a.q_proj") == (TENSOR,)
    assert made.schemes("a.up_proj") == (MODELOPT_NVFP4,)
    assert made.schemes("a.o_proj") == (MXFP8,)
    assert made.schemes("a.experts.0.down_proj") == (MODELOPT_NVFP4,)
    # A module that is not listed may be part of a fused one that is: the tensors decide.
    assert made.schemes("a.qkv_proj") == (TENSOR, MODELOPT_NVFP4, MXFP8)


def test_quark_layers_before_classes_before_the_rest() -> None:
    made = table(
        quark(
            fp8_spec("per_tensor"),
            layer_type_quant_config={"Linear": {"weight": fp8_spec("per_channel")}},
            layer_quant_config={
                "*.experts.*": {"weight": FP4_SPEC}, "*lm_head": {"weight": None},
                "model.layers.0.up_proj": {"weight": NV_SPEC},
            },
            exclude=["lm_head"],
        )
    )  # fmt: skip
    assert made.schemes("model.layers.0.mlp.experts.7.up_proj") == (MXFP4,)
    assert made.schemes("model.layers.0.up_proj") == (MODELOPT_NVFP4,)
    assert made.schemes("model.layers.1.up_proj") == (CHANNEL, TENSOR)
