# SPDX-License-Identifier: Apache-2.0
"""NVFP4 by ModelOpt: rows N2, N3 and N4 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import numpy as np
import pytest
import testkit
import torch

from vllm_ascend_bringup.errors import FormatError

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
MODELOPT: "dict[str, Any]" = {
    "quant_method": "modelopt", "quant_algo": "NVFP4",
    "config_groups": {"group_0": {"weights": {"num_bits": 4, "group_size": 16}}},
}  # fmt: skip
FILE: "dict[str, Any]" = {
    "producer": {"name": "modelopt"},
    "quantization": {"quant_algo": "NVFP4", "group_size": 16, "exclude_modules": ["lm_head"]},
}
QUARK: "dict[str, Any]" = {
    "quant_method": "quark",
    "global_quant_config": {"weight": [
        {"dtype": "fp4", "qscheme": "per_group", "group_size": 16},
        {"dtype": "fp8_e4m3", "qscheme": "per_tensor"},
    ]},
}  # fmt: skip
HYBRID: "dict[str, Any]" = {
    "quant_method": "fp8", "weight_block_size": [128, 128], "moe_quant_algo": "NVFP4",
}  # fmt: skip
MODULE = "model.layers.0.mlp.up_proj"
EXPERTS = "model.layers.0.mlp.experts"
FACTOR = np.float32(0.37 / 2688)


def floats(*values: float) -> format_kit.Floats:
    return np.array(values, np.float32)


def linear(shape: tuple[int, ...], factor: object = FACTOR, stored: tuple[int, ...] = ()) -> (
    format_kit.Made
):  # fmt: skip
    return format_kit.nvfp4(
        f"{MODULE}.weight", shape, np.asarray(factor, np.float32), scale=f"{MODULE}.weight_scale",
        over=f"{MODULE}.weight_scale_2", stored=stored,
    )  # fmt: skip


@pytest.mark.parametrize(
    "settings", [MODELOPT, FILE, QUARK, HYBRID], ids=("flat", "file", "quark", "hybrid")
)
@pytest.mark.parametrize("stored", [(), (1,)], ids=("[]", "[1]"))
@pytest.mark.parametrize("shape", [(8, 64), (1, 16), (7, 48)], ids=str)
def test_n2_the_global_scale_multiplies(
    check_format: Check, settings: "dict[str, Any]", shape: tuple[int, ...], stored: tuple[int, ...]
) -> None:
    activations = format_kit.dropped(f"{MODULE}.input_scale", f"{MODULE}.input_scale_2")
    check_format(linear(shape, stored=stored) | activations, settings)


@pytest.mark.parametrize("stored", [(3,), (3, 1), (3, 1, 1), ()], ids=str)
def test_n3_experts(check_format: Check, stored: tuple[int, ...]) -> None:
    factor = floats(1e-4, 3e-3, 0.7).reshape(3, 1, 1) if stored else FACTOR
    check_format(linear((3, 8, 64), factor, stored), MODELOPT)


@pytest.mark.parametrize("stored", [(2,), (2, 1, 1), ()], ids=str)
@pytest.mark.parametrize("shape", [(2, 6, 64), (2, 1, 32), (2, 5, 16)], ids=str)
def test_n3_experts_of_bmm_are_packed_along_rows(
    check_format: Check, shape: tuple[int, int, int], stored: tuple[int, ...]
) -> None:
    name = f"{EXPERTS}.down_proj"
    made = format_kit.nvfp4(
        name, shape, floats(1e-4, 0.3).reshape(2, 1, 1) if stored else np.asarray(FACTOR),
        scale=f"{name}_weight_scale", over=f"{name}_weight_scale_2", stored=stored, bmm=True,
    )  # fmt: skip
    E, out, inputs = shape
    assert made.tensors[name].shape == (E, inputs // 2, out)
    assert made.wanted[name].shape == (E, inputs, out)
    check_format(made | format_kit.dropped(f"{name}_input_scale"), MODELOPT)


@pytest.mark.parametrize("spelling", ["_scale", "_weight_scale"])
def test_gate_and_up_with_a_global_scale_each(check_format: Check, spelling: str) -> None:
    name = f"{EXPERTS}.gate_up_proj"
    factor = floats(1e-4, 0.3, 2e-3, 0.05, 1.1, 4e-4).reshape(3, 2, 1, 1)
    rows = np.broadcast_to(factor, (3, 2, 4, 1)).reshape(3, 8, 1)  # gate rows first, then up
    made = format_kit.nvfp4(
        name, (3, 8, 32), rows, scale=f"{name}{spelling}", over=f"{name}{spelling}_2",
        stored=(3, 8, 1), bmm=spelling == "_weight_scale",
    )  # fmt: skip
    tensors = {**made.tensors, f"{name}{spelling}_2": torch.from_numpy(factor).reshape(3, 2)}
    check_format(
        format_kit.Made(tensors, made.wanted) | format_kit.dropped(f"{name}.input_scale"), MODELOPT
    )


def test_gate_and_up_of_two_experts_is_not_one_scale_per_expert(check_format: Check) -> None:
    name = f"{EXPERTS}.gate_up_proj"
    factor = floats(1e-4, 0.3, 2e-3, 0.05).reshape(2, 2, 1, 1)
    rows = np.broadcast_to(factor, (2, 2, 3, 1)).reshape(2, 6, 1)
    made = format_kit.nvfp4(
        name, (2, 6, 16), rows, scale=f"{name}_scale", over=f"{name}_scale_2", stored=(2, 6, 1)
    )
    tensors = {**made.tensors, f"{name}_scale_2": torch.from_numpy(factor).reshape(2, 2)}
    check_format(format_kit.Made(tensors, made.wanted), MODELOPT)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=("bf16", "fp16"))
def test_n4_scales_are_joined_first_in_float32(check_format: Check, dtype: torch.dtype) -> None:
    factor = np.float32(16400805 * 2.0**-37)  # found by search: the order shows after rounding
    made = linear((64, 1024), factor)
    codes = format_kit.nibbles(made.tensors[f"{MODULE}.weight"].numpy())
    scale = format_kit.as_floats(made.tensors[f"{MODULE}.weight_scale"])
    one_by_one = format_kit.E2M1[codes] * format_kit.expanded(scale, (64, 1024), (1, 16)) * factor
    wanted = format_kit.rounded(made.wanted[f"{MODULE}.weight"], dtype)
    assert not torch.equal(format_kit.rounded(one_by_one, dtype), wanted)
    check_format(made, MODELOPT)


def test_as_vllm_emulates() -> None:
    emulation = pytest.importorskip(
        "vllm.model_executor.layers.quantization.utils.nvfp4_emulation_utils"
    )
    made = linear((8, 64))
    codes = emulation.break_fp4_bytes(made.tensors[f"{MODULE}.weight"], torch.float32)
    scale = (
        made.tensors[f"{MODULE}.weight_scale"].float() * made.tensors[f"{MODULE}.weight_scale_2"]
    )
    wanted = codes.view(8, 4, 16) * scale.unsqueeze(-1)
    assert np.array_equal(made.wanted[f"{MODULE}.weight"], wanted.reshape(8, 64).numpy())


W, S, G = f"{MODULE}.weight", f"{MODULE}.weight_scale", f"{MODULE}.weight_scale_2"


@pytest.mark.parametrize(
    ("name", "tensor", "found", "expected"),
    [
        pytest.param(G, None, W, "a global_scale", id="no-global-scale"),
        pytest.param(S, None, W, S, id="no-scale"),
        pytest.param(G, torch.tensor(0.0), G, "not zero", id="global-zero"),
        pytest.param(G, torch.tensor(float("nan")), G, "finite", id="global-nan"),
        pytest.param(G, torch.tensor(-1.0), G, "not negative", id="global-negative"),
        pytest.param(G, torch.ones(8), G, "[1]", id="global-per-row"),
        pytest.param(G, torch.ones((), dtype=torch.int32), G, "F32", id="global-int"),
        pytest.param(S, torch.ones(8, 2).to(torch.float8_e4m3fn), "[8, 2]", "[8, 4]",
                     id="scale-of-groups-of-32"),
        pytest.param(S, torch.ones(8, 4), "F32", "F8_E4M3", id="scale-float32"),
        pytest.param(S, torch.full((8, 4), -1.0).to(torch.float8_e4m3fn), "-1", "not negative",
                     id="scale-negative"),
        pytest.param(W, torch.ones(8, 32, dtype=torch.int8), "I8", "U8", id="codes-int8"),
        pytest.param(W, torch.ones(8, 33, dtype=torch.uint8), "[8, 33]", "16 divides",
                     id="columns-not-in-groups"),
        pytest.param(f"{MODULE}.weight_scale_inv", torch.ones(8, 4), S, "one of them",
                     id="two-scales"),
        pytest.param(f"{MODULE}.pre_quant_scale", torch.ones(64), "smoothed", "alone",
                     id="awq-smoothing"),
        pytest.param(f"{MODULE}.svdquant_lora_a", torch.ones(2, 64), "low-rank", "alone",
                     id="svd-residual"),
    ],
)  # fmt: skip
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, name: str, tensor: "torch.Tensor | None",
    found: str, expected: str,
) -> None:  # fmt: skip
    tensors = dict(linear((8, 64)).tensors)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MODELOPT})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_a_global_scale_per_half_needs_halves(tmp_path: Path, decode_checkpoint: Decode) -> None:
    made = linear((3, 8, 32), floats(*range(1, 4)).reshape(3, 1, 1), (3,))
    tensors = {**made.tensors, G: torch.ones(3, 2)}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MODELOPT})
    with pytest.raises(FormatError, match=r"weight_scale_2 \(F32 \[3, 2\]\)") as caught:
        decode_checkpoint(tmp_path)
    assert "[3, 1, 1]" in caught.value.expected
