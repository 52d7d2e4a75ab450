# SPDX-License-Identifier: Apache-2.0
"""Several formats in one checkpoint: rows M2, H1, S1, S2, A1 of the reference's test matrix."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import numpy as np
import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.families.base import LeftAlone, SchemeTable
from vllm_ascend_bringup.formats.pairing import decode_plan
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
LAYER = "model.layers.0"
FP8, NVFP4, MXFP8 = (f"{LAYER}.self_attn.{m}_proj" for m in ("o", "gate", "kv_a"))
MIXED: "dict[str, Any]" = {
    FP8: {"quant_algo": "FP8"},
    NVFP4: {"quant_algo": "NVFP4", "group_size": 16},
    MXFP8: {"quant_algo": "MXFP8", "group_size": 32},
}
FLAT: "dict[str, Any]" = {
    "quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": MIXED,
    "kv_cache_scheme": {"num_bits": 8, "type": "float", "dynamic": False},
}  # fmt: skip
FILE: "dict[str, Any]" = {
    "producer": {"name": "modelopt", "version": "0.40"},
    "quantization": {
        "quant_algo": "MIXED_PRECISION", "kv_cache_quant_algo": "FP8", "quantized_layers": MIXED,
    },
}  # fmt: skip


def modelopt() -> format_kit.Made:
    made = format_kit.fp8(
        f"{FP8}.weight", (12, 64), (12, 64), scale=f"{FP8}.weight_scale", stored=()
    )
    made |= format_kit.nvfp4(
        f"{NVFP4}.weight", (12, 64), np.asarray(0.37 / 2688, np.float32),
        scale=f"{NVFP4}.weight_scale", over=f"{NVFP4}.weight_scale_2",
    )  # fmt: skip
    made |= format_kit.fp8(
        f"{MXFP8}.weight", (12, 64), (1, 32), scale=f"{MXFP8}.weight_scale", dtype="U8"
    )
    made |= format_kit.dropped(
        f"{FP8}.input_scale", f"{NVFP4}.input_scale", f"{LAYER}.self_attn.k_proj.k_scale",
        f"{LAYER}.self_attn.v_proj.v_scale",
    )  # fmt: skip
    kept = {
        f"{LAYER}.self_attn.q_proj.weight": torch.randn(12, 64).bfloat16(),
        f"{LAYER}.input_layernorm.weight": torch.randn(64).bfloat16(),
        "lm_head.weight": torch.randn(6, 64).bfloat16(),
    }
    return made | format_kit.Made(kept, {}, kept)


@pytest.mark.parametrize("settings", [FLAT, FILE], ids=("flat", "file"))
def test_m2_each_module_by_its_own_row(check_format: Check, settings: "dict[str, Any]") -> None:
    check_format(modelopt(), settings)


def test_m2_rows_that_contradict_the_tensors_are_refused(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    swapped = {**FLAT, "quantized_layers": {**MIXED, FP8: MIXED[NVFP4]}}
    testkit.write_checkpoint(tmp_path, modelopt().tensors, {"quantization_config": swapped})
    with pytest.raises(FormatError, match=rf"{FP8}\.weight \(F8_E4M3 \[12, 64\]\)") as caught:
        decode_checkpoint(tmp_path)
    assert "U8" in caught.value.expected


def test_m2_rows_are_in_hf_quant_config_where_config_json_has_none(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    made = modelopt()
    config = {"quant_method": "modelopt_mixed", "quant_algo": "MIXED_PRECISION"}
    testkit.write_checkpoint(tmp_path, made.tensors, {"quantization_config": config})
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(FILE))
    found = decode_checkpoint(tmp_path)
    for name, values in made.wanted.items():
        assert torch.equal(found[name], format_kit.rounded(values, torch.bfloat16))


def test_hf_quant_config_alone_is_enough(tmp_path: Path, decode_checkpoint: Decode) -> None:
    made = modelopt()
    testkit.write_checkpoint(tmp_path, made.tensors, {})
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(FILE))
    found = decode_checkpoint(tmp_path)
    assert set(found) == {*made.wanted, *made.kept}
    for name, values in made.wanted.items():
        assert torch.equal(found[name], format_kit.rounded(values, torch.bfloat16))


# DeepSeek-V4 as nvidia repacks it: dense fp8 keeps ".scale", experts are NVFP4, those of the MTP
# layer stay MXFP4.
REPACK: "dict[str, Any]" = {
    "quant_method": "fp8", "fmt": "e4m3", "scale_fmt": "ue8m0", "weight_block_size": [128, 128],
    "quant_algo": "MIXED_PRECISION", "moe_quant_algo": "NVFP4",
    "ignore": ["layers.*.attn.*", "head"],
}  # fmt: skip
V4: "dict[str, Any]" = {"model_type": "deepseek_v4", "expert_dtype": "fp4"}


def deepseek() -> format_kit.Made:
    made = format_kit.plain(
        embed__weight=torch.randn(8, 64).bfloat16(), head__weight=torch.randn(8, 64).bfloat16(),
        norm__weight=torch.randn(64).bfloat16(), hc_head_scale=torch.randn(1),
        layers__0__hc_attn_scale=torch.randn(3), layers__0__hc_ffn_scale=torch.randn(3),
        layers__0__hc_attn_fn=torch.randn(3, 4), layers__0__attn__attn_sink=torch.randn(4),
        layers__0__ffn__gate__weight=torch.randn(2, 64).bfloat16(),
        layers__0__ffn__gate__bias=torch.randn(2),
        layers__0__ffn__gate__tid2eid=torch.randint(0, 2, (8, 2), dtype=torch.int32),
    )  # fmt: skip
    for dense in ("layers.0.attn.wq_a", "layers.0.ffn.shared_experts.w1", "mtp.0.e_proj"):
        made |= format_kit.fp8(
            f"{dense}.weight", (160, 64), (128, 128), scale=f"{dense}.scale", dtype="F8_E8M0"
        )
    for expert in ("layers.0.ffn.experts.0.w1", "layers.0.ffn.experts.1.w2"):
        made |= format_kit.nvfp4(
            f"{expert}.weight", (12, 64), np.asarray(0.37 / 2688, np.float32),
            scale=f"{expert}.weight_scale", over=f"{expert}.weight_scale_2",
        ) | format_kit.dropped(f"{expert}.input_scale")  # fmt: skip
    for expert in ("mtp.0.ffn.experts.0.w1", "mtp.0.ffn.experts.1.w2"):
        made |= format_kit.mxfp4(
            f"{expert}.weight", f"{expert}.scale", (12, 64), name=f"{expert}.weight", stored="I8",
            dtype="F8_E8M0",
        )  # fmt: skip
    return made


@pytest.mark.parametrize("model", [V4, {}], ids=("by-model", "by-settings-alone"))
def test_three_formats_of_the_deepseek_v4_repack(
    check_format: Check, model: "dict[str, Any]"
) -> None:
    check_format(deepseek(), REPACK, model)


def test_each_weight_of_the_repack_has_the_format_it_should(tmp_path: Path) -> None:
    testkit.write_checkpoint(tmp_path, deepseek().tensors, {**V4, "quantization_config": REPACK})
    checkpoint = read_checkpoint(tmp_path)
    table = checkpoint_schemes(checkpoint)
    assert isinstance(table, SchemeTable)
    plan = decode_plan(checkpoint.tensors, table)
    found = {name.removesuffix(".weight"): p.format.id for name, p in plan.pairings.items()}
    assert found == {
        "layers.0.attn.wq_a": "block_fp8",
        "layers.0.ffn.shared_experts.w1": "block_fp8",
        "mtp.0.e_proj": "block_fp8",
        "layers.0.ffn.experts.0.w1": "modelopt_nvfp4",
        "layers.0.ffn.experts.1.w2": "modelopt_nvfp4",
        "mtp.0.ffn.experts.0.w1": "mxfp4",
        "mtp.0.ffn.experts.1.w2": "mxfp4",
    }
    assert {name for name in plan.dropped if not name.endswith(".input_scale")} == set()


def test_compressed_tensors_groups_of_four_formats(check_format: Check) -> None:
    float8 = {"num_bits": 8, "type": "float"}
    mx = {**float8, "strategy": "group", "group_size": 32, "scale_dtype": "torch.uint8"}
    nv = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    integer = {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32}
    groups = {
        "experts": {"targets": ["re:.*experts.*"], "weights": nv, "format": "nvfp4-pack-quantized"},
        "attention": {"targets": ["re:.*self_attn.*"], "weights": mx, "format": "mxfp8-quantized"},
        "head": {"targets": ["lm_head"], "weights": integer, "format": "pack-quantized"},
        "rest": {"targets": ["Linear"], "weights": {**float8, "strategy": "channel"},
                 "format": "float-quantized"},
    }  # fmt: skip
    expert, attention = f"{LAYER}.mlp.experts.0.up_proj", f"{LAYER}.self_attn.o_proj.weight"
    rest = f"{LAYER}.mlp.shared.up_proj.weight"
    made = format_kit.nvfp4(
        f"{expert}.weight_packed", (8, 64), np.array([2688 / 0.37], np.float32),
        scale=f"{expert}.weight_scale", over=f"{expert}.weight_global_scale", divides=True,
        stored=(1,), name=f"{expert}.weight",
    )  # fmt: skip
    made |= format_kit.fp8(attention, (8, 64), (1, 32), scale=f"{attention}_scale", dtype="U8")
    made |= format_kit.packed_int("lm_head", (8, 64), group=32)
    made |= format_kit.fp8(rest, (8, 64), (1, 64), scale=f"{rest}_scale", dtype="BF16")
    settings = {
        "quant_method": "compressed-tensors", "format": "mixed-precision", "config_groups": groups,
    }  # fmt: skip
    check_format(made, settings)


@pytest.mark.parametrize("listed", [True, False], ids=("in-index", "not-in-index"))
@pytest.mark.parametrize("last", [True, False], ids=("after", "before"))
def test_s1_partners_in_another_shard(
    tmp_path: Path, check_format: Check, decode_checkpoint: Decode, last: bool, listed: bool
) -> None:
    made = deepseek() | fused_experts()
    codes = [name for name in made.tensors if name in {*made.wanted, *made.kept}]
    partners = [name for name in made.tensors if name not in codes]
    shards = [codes, partners] if last else [partners, codes]
    check_format(made, REPACK, V4, shards)
    if not listed:
        index = tmp_path / "model.safetensors.index.json"
        content = json.loads(index.read_text())
        for name in partners:
            del content["weight_map"][name]
        index.write_text(json.dumps(content))
    found = decode_checkpoint(tmp_path)
    assert set(found) == {*made.wanted, *made.kept}
    for name, values in made.wanted.items():
        assert torch.equal(found[name], format_kit.rounded(values, torch.bfloat16))


def fused_experts() -> format_kit.Made:
    """Fused NVFP4 experts, whose names have no ".weight"."""
    name = "layers.1.ffn.experts.gate_up_proj"
    return format_kit.nvfp4(
        name, (2, 16, 32), np.array([1e-4, 2e-3], np.float32).reshape(2, 1, 1),
        scale=f"{name}_scale", over=f"{name}_scale_2", stored=(2,),
    )  # fmt: skip


@pytest.mark.parametrize("missing", ["scale", "weight_scale", "weight_scale_2"])
def test_a_partner_that_no_shard_holds(
    tmp_path: Path, decode_checkpoint: Decode, missing: str
) -> None:
    made = deepseek()
    name = next(name for name in made.tensors if name.endswith(f".{missing}"))
    testkit.write_checkpoint(
        tmp_path, {n: t for n, t in made.tensors.items() if n != name},
        {**V4, "quantization_config": REPACK},
    )  # fmt: skip
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert name.rpartition(".")[0] in caught.value.found


WEIGHT = f"{LAYER}.mlp.up_proj.weight"
COMPRESSED: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "pack-quantized",
    "config_groups": {"a": {"targets": ["Linear"], "weights": {
        "num_bits": 4, "type": "int", "strategy": "channel"}}},
}  # fmt: skip


def one(largest: float, kind: str) -> "tuple[dict[str, torch.Tensor], dict[str, Any]]":
    """A weight of ones of each kind, one of which is ``largest`` by its scale alone."""
    scale = torch.tensor([[1.0], [largest]])
    if kind == "fp8":
        codes = torch.full((2, 32), 0x38, dtype=torch.uint8).view(torch.float8_e4m3fn)
        return {WEIGHT: codes, f"{WEIGHT}_scale": scale}, {"quant_method": "fp8"}
    if kind == "int4":
        return {
            f"{WEIGHT}_packed": torch.full((2, 4), -0x66666667, dtype=torch.int32),  # nines
            f"{WEIGHT}_scale": scale,
            f"{WEIGHT}_shape": torch.tensor([2, 32]),
        }, COMPRESSED
    return {
        WEIGHT: torch.full((2, 16), 0x22, dtype=torch.uint8),
        f"{WEIGHT}_scale": torch.ones(2, 2).to(torch.float8_e4m3fn),
        f"{WEIGHT}_scale_2": torch.tensor(largest),
    }, {"quant_method": "modelopt", "quant_algo": "NVFP4"}


@pytest.mark.parametrize("kind", ["fp8", "nvfp4", "int4"])
def test_float16_ends_where_rounding_says(
    tmp_path: Path, decode_checkpoint: Decode, kind: str
) -> None:
    for largest, fits in ((65519.0, True), (65520.0, False)):
        tensors, settings = one(largest, kind)
        testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
        assert float(decode_checkpoint(tmp_path)[WEIGHT].max()) == 65536.0  # bf16 has room
        if fits:
            assert float(decode_checkpoint(tmp_path, torch.float16)[WEIGHT].max()) == 65504.0
        else:
            with pytest.raises(FormatError, match=f"{WEIGHT} in .* exceed float16"):
                decode_checkpoint(tmp_path, torch.float16)


@pytest.mark.parametrize("kind", ["fp8", "nvfp4", "int4"])
def test_float16_below_its_normal_numbers(
    tmp_path: Path, decode_checkpoint: Decode, kind: str
) -> None:
    for smallest in (2.0**-24, 2.0**-25, 2.0**-25 * 1.01, 3 * 2.0**-25, 1.234e-6):
        tensors, settings = one(smallest, kind)
        testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
        wanted = format_kit.rounded(np.full(32, smallest, np.float32), torch.float16)
        found = decode_checkpoint(tmp_path, torch.float16)[WEIGHT][1]
        assert format_kit.same_bits(found, wanted)


@pytest.mark.parametrize("settings", [FLAT, REPACK], ids=("modelopt", "deepseek-v4"))
def test_s2_a_checkpoint_without_codes_passes_as_it_is(
    check_format: Check, settings: "dict[str, Any]"
) -> None:
    check_format(format_kit.Made(kept := deepseek().kept, {}, kept), settings)


def test_a1_modelslim_weights_are_not_touched(tmp_path: Path, decode_checkpoint: Decode) -> None:
    module = f"{LAYER}.mlp.up_proj"
    tensors = {
        f"{module}.weight": torch.randint(-128, 128, (8, 16), dtype=torch.int8),
        f"{module}.weight_scale": torch.rand(8, 1),
        f"{module}.weight_offset": torch.zeros(8, 1),
        f"{module}.input_scale": torch.ones(1), f"{module}.deq_scale": torch.rand(8),
        f"{module}.quant_bias": torch.zeros(8, dtype=torch.int32),
        "lm_head.weight": torch.randn(4, 16).bfloat16(),
    }  # fmt: skip
    config = {"quantization_config": {"quant_method": "fp8"}}
    testkit.write_checkpoint(tmp_path, tensors, config)
    (tmp_path / "quant_model_description.json").write_text(
        json.dumps({f"{module}.weight": "W8A8", "model_quant_type": "W8A8"})
    )
    reason = checkpoint_schemes(read_checkpoint(tmp_path))
    assert isinstance(reason, LeftAlone)
    assert "quant_model_description.json" in reason.reason
    found = decode_checkpoint(tmp_path)
    assert set(found) == set(tensors)
    for name, tensor in tensors.items():
        assert format_kit.same_bits(found[name], tensor)


def test_without_the_description_modelslim_weights_are_named_not_decoded(
    tmp_path: Path, decode_checkpoint: Decode
) -> None:
    name = f"{LAYER}.mlp.up_proj.weight"
    tensors = {
        name: torch.ones(8, 16, dtype=torch.int8), f"{name}_scale": torch.ones(8, 1),
        f"{name}_offset": torch.zeros(8, 1),
    }  # fmt: skip
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": {"quant_method": "fp8"}})
    with pytest.raises(FormatError, match=r"weight_offset .*ModelSlim"):
        decode_checkpoint(tmp_path)


def test_a_dense_checkpoint_has_no_settings(tmp_path: Path) -> None:
    testkit.write_checkpoint(tmp_path, {"a": torch.ones(2)}, {})
    reason = checkpoint_schemes(read_checkpoint(tmp_path))
    assert reason == LeftAlone("the config has no quantization settings")
