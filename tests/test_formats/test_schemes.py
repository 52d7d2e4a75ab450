# SPDX-License-Identifier: Apache-2.0
"""Quantization settings as exporters write them, and which scheme a module gets from them."""

from typing import Any

import pytest

from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.schemes import scheme_table

BLOCK = Scheme(("block_fp8",), (128, 128))
CHANNEL, TENSOR = Scheme(("channel_fp8",)), Scheme(("tensor_fp8",))
FP8_BLOCK: "dict[str, Any]" = {"quant_method": "fp8", "weight_block_size": [128, 128]}


def group(targets: object = ("Linear",), **weights: object) -> "dict[str, Any]":
    """One config group of compressed-tensors; fp8 per channel unless told."""
    weights = {"num_bits": 8, "type": "float", "strategy": "channel", **weights}
    return {"targets": list(targets) if isinstance(targets, tuple) else targets, "weights": weights}


def compressed(*groups: object, **settings: object) -> "dict[str, Any]":
    named = {f"group_{number}": content for number, content in enumerate(groups)}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized", "config_groups": named,
        **settings,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("settings", "family", "scheme"),
    [
        pytest.param(FP8_BLOCK, "fp8", BLOCK, id="fp8-block"),
        pytest.param({**FP8_BLOCK, "quant_method": "FP8"}, "fp8", BLOCK, id="upper-case"),
        pytest.param({**FP8_BLOCK, "weight_block_size": (128, 128)}, "fp8", BLOCK, id="tuple"),
        pytest.param({**FP8_BLOCK, "weight_block_size": "128x128"}, "fp8", BLOCK, id="string"),
        pytest.param({**FP8_BLOCK, "scale_fmt": "ue8m0"}, "fp8", BLOCK, id="scale-fmt-is-ignored"),
        pytest.param({**FP8_BLOCK, "expert_dtype": None}, "fp8", BLOCK, id="hybrid-key-is-null"),
        pytest.param(
            {"quant_method": "fp8", "activation_scheme": "static"},
            "fp8", Scheme(("tensor_fp8", "channel_fp8")), id="fp8-without-block",
        ),
        pytest.param(compressed(group()), "compressed-tensors", CHANNEL, id="ct-channel"),
        pytest.param(
            compressed(group(), quant_method="compressed_tensors"),
            "compressed-tensors", CHANNEL, id="ct-underscore",
        ),
        pytest.param(
            compressed(group(strategy="tensor")), "compressed-tensors", TENSOR, id="ct-tensor"
        ),
        pytest.param(
            compressed(group(strategy="block", block_structure=[128, 128])),
            "compressed-tensors", BLOCK, id="ct-block",
        ),
        pytest.param(
            compressed(group(strategy="block", block_structure="128x128")),
            "compressed-tensors", BLOCK, id="ct-block-string",
        ),
        pytest.param(
            compressed({**group(), "format": "naive-quantized"}, format="mixed-precision"),
            "compressed-tensors", CHANNEL, id="ct-format-per-group",
        ),
        pytest.param(
            {"quant_method": "modelopt", "quant_algo": "fp8"}, "modelopt", TENSOR, id="modelopt"
        ),
        pytest.param(
            {"quant_method": "modelopt", "quant_algo": "FP8_PER_CHANNEL_PER_TOKEN"},
            "modelopt", CHANNEL, id="modelopt-channel",
        ),
        pytest.param(
            {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8"}},
            "modelopt", TENSOR, id="modelopt-file",
        ),
    ],
)  # fmt: skip
def test_understood_settings(settings: "dict[str, Any]", family: str, scheme: Scheme) -> None:
    table = scheme_table(settings)
    assert table is not None
    assert table.family == family
    assert table.scheme("model.layers.0.mlp.up_proj") == scheme


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param({}, id="empty"),
        pytest.param({"quant_method": None}, id="null"),
        pytest.param({"quant_method": "ascend"}, id="modelslim"),
        pytest.param({"quant_method": "mxfp4"}, id="mxfp4"),
        pytest.param({"quant_method": "fbgemm_fp8"}, id="fbgemm"),
        pytest.param({**FP8_BLOCK, "expert_dtype": "fp4"}, id="fp4-experts"),
        pytest.param({**FP8_BLOCK, "moe_quant_algo": "NVFP4"}, id="nvfp4-experts"),
        pytest.param({**FP8_BLOCK, "routed_experts_quant_method": "mxfp4"}, id="mxfp4-experts"),
        pytest.param({"quant_method": "modelopt", "quant_algo": "NVFP4"}, id="modelopt-nvfp4"),
        pytest.param({"quant_method": "modelopt"}, id="modelopt-without-algorithm"),
        pytest.param({"producer": {"name": "quark"}, "quantization": {"quant_algo": "FP8"}},
                     id="other-producer"),
        pytest.param(compressed(), id="ct-no-groups"),
        pytest.param(compressed(config_groups=[group()]), id="ct-groups-are-a-list"),
        pytest.param(compressed("Linear"), id="ct-group-is-a-string"),
        pytest.param(compressed({"targets": ["Linear"]}), id="ct-group-without-weights"),
        pytest.param(compressed(group(num_bits=4)), id="ct-4-bit"),
        pytest.param(compressed(group(type="int")), id="ct-int8"),
        pytest.param(compressed(group(strategy="group")), id="ct-group-strategy"),
        pytest.param(compressed(group(strategy=None)), id="ct-no-strategy"),
        pytest.param(compressed(group(), format="nvfp4-pack-quantized"), id="ct-nvfp4"),
        pytest.param(compressed(group(), format=None), id="ct-no-format"),
        pytest.param(compressed(group(), group(num_bits=4)), id="ct-one-group-of-two"),
        pytest.param(compressed(group(), transform_config={"R1": {}}), id="ct-rotated"),
        pytest.param(compressed(group(), sparsity_config={"format": "x"}), id="ct-sparse"),
        pytest.param(compressed(group(targets="Linear")), id="ct-targets-are-a-string"),
        pytest.param(compressed(group(targets=7)), id="ct-targets-are-a-number"),
    ],
)  # fmt: skip
def test_other_settings_are_left_to_vllm(settings: "dict[str, Any]") -> None:
    assert scheme_table(settings) is None


@pytest.mark.parametrize(
    "size",
    [[128], [128, 128, 128], [128, 0], [-128, 128], [128.0, 128], ["a", "b"], "128", "128*128",
     128, 0, [], {}, [None, 128], [True, True]],
    ids=repr,
)  # fmt: skip
@pytest.mark.parametrize("family", ["fp8", "compressed-tensors"])
def test_block_size_that_is_not_two_positive_numbers(family: str, size: object) -> None:
    if family == "fp8":
        settings = {"quant_method": "fp8", "weight_block_size": size}
    else:
        settings = compressed(group(strategy="block", block_structure=size))
    with pytest.raises(FormatError, match="two positive whole numbers") as caught:
        scheme_table(settings)
    assert repr(size) in caught.value.found


def test_block_strategy_without_block_structure_is_refused() -> None:
    with pytest.raises(FormatError, match="block size None"):
        scheme_table(compressed(group(strategy="block")))


def test_block_scales_with_static_activations_are_refused() -> None:
    with pytest.raises(FormatError, match="activation_scheme static"):
        scheme_table({**FP8_BLOCK, "activation_scheme": "static"})


def test_target_that_is_not_a_pattern_is_refused() -> None:
    with pytest.raises(FormatError, match=r"re:\[") as caught:
        scheme_table(compressed(group(targets=("re:[",))))
    assert "regular expression" in caught.value.expected


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
    table = scheme_table(TWO_GROUPS)
    assert table is not None
    assert table.scheme(module) == scheme


def test_patterns_match_from_the_start_of_the_name() -> None:
    table = scheme_table(
        compressed(group(("re:self_attn",), strategy="tensor"), group(("Linear",)))
    )
    assert table is not None
    assert table.scheme("model.self_attn") == CHANNEL
    assert table.scheme("self_attn.q") == TENSOR


def test_without_a_class_target_the_last_group_is_the_rest() -> None:
    table = scheme_table(compressed(group(("re:a",), strategy="tensor"), group(("re:b",))))
    assert table is not None
    assert table.scheme("c") == CHANNEL
