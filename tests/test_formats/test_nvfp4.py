# SPDX-License-Identifier: Apache-2.0
"""NVFP4 by compressed-tensors: rows N1 and N4 of the format reference's test matrix."""

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
SETTINGS: "dict[str, Any]" = {
    "quant_method": "compressed-tensors", "format": "nvfp4-pack-quantized",
    "config_groups": {"group_0": {
        "targets": ["Linear"],
        "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16,
                    "scale_dtype": "torch.float8_e4m3fn"},
        "input_activations": {"num_bits": 4, "type": "float", "strategy": "tensor_group"},
    }},
}  # fmt: skip
MODULE = "model.layers.0.mlp.up_proj"
W, S = f"{MODULE}.weight_packed", f"{MODULE}.weight_scale"
G = f"{MODULE}.weight_global_scale"
DIVISOR = np.float32(2688 / 0.37)


def made(
    shape: tuple[int, ...], divisor: "format_kit.Floats | np.float32" = DIVISOR, *,
    stored: tuple[int, ...] = (1,),
) -> format_kit.Made:  # fmt: skip
    return format_kit.nvfp4(
        f"{MODULE}.weight_packed", shape, np.asarray(divisor, np.float32),
        scale=f"{MODULE}.weight_scale", over=f"{MODULE}.weight_global_scale", divides=True,
        stored=stored, name=f"{MODULE}.weight",
    )  # fmt: skip


@pytest.mark.parametrize("stored", [(1,), ()], ids=("[1]", "[]"))
@pytest.mark.parametrize("shape", [(8, 64), (1, 16), (7, 48), (3, 5, 32)], ids=str)
def test_n1_the_global_scale_divides(
    check_format: Check, shape: tuple[int, ...], stored: tuple[int, ...]
) -> None:
    activations = format_kit.dropped(f"{MODULE}.input_global_scale")
    check_format(made(shape, stored=stored) | activations, SETTINGS)


@pytest.mark.parametrize("stored", [(3,), (3, 1)], ids=("[E]", "[E,1]"))
def test_each_expert_has_its_own_divisor(check_format: Check, stored: tuple[int, ...]) -> None:
    divisors = np.array([2688 / 0.37, 2688 / 1.5, 2688 / 0.011], np.float32).reshape(3, 1, 1)
    check_format(made((3, 4, 32), divisors, stored=stored), SETTINGS)


def test_n4_scales_are_joined_first_in_float32(check_format: Check) -> None:
    divisor = np.float32(7581.2847)  # found by search: order and inverse show after rounding
    one = made((64, 1024), divisor)
    codes = format_kit.E2M1[format_kit.nibbles(one.tensors[W].numpy())]
    scale = format_kit.expanded(format_kit.as_floats(one.tensors[S]), (64, 1024), (1, 16))
    wanted = format_kit.rounded(one.wanted[f"{MODULE}.weight"], torch.bfloat16)
    for other in (codes * scale / divisor, codes * (scale * (np.float32(1) / divisor))):
        assert not torch.equal(format_kit.rounded(other, torch.bfloat16), wanted)
    check_format(one, SETTINGS)


def test_tensors_of_one_layer_have_unequal_divisors(check_format: Check) -> None:
    parts = []
    for kind, largest in (("q", 0.37), ("k", 2.1), ("v", 0.05)):
        module = f"model.layers.0.self_attn.{kind}_proj"
        parts.append(
            format_kit.nvfp4(
                f"{module}.weight_packed", (4, 32), np.array([2688 / largest], np.float32),
                scale=f"{module}.weight_scale", over=f"{module}.weight_global_scale",
                divides=True, stored=(1,), name=f"{module}.weight",
            )
        )  # fmt: skip
    check_format(parts[0] | parts[1] | parts[2], SETTINGS)


def test_as_compressed_tensors_dequantizes() -> None:
    helpers = pytest.importorskip("compressed_tensors.compressors.nvfp4.helpers")
    forward = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    one = made((8, 64))
    packed = one.tensors[f"{MODULE}.weight_packed"]
    wanted = forward.dequantize(
        helpers.unpack_fp4_from_uint8(packed, 8, 64, torch.float32),
        one.tensors[f"{MODULE}.weight_scale"].float(),
        global_scale=one.tensors[f"{MODULE}.weight_global_scale"],
        dtype=torch.float32,
    )
    assert np.array_equal(one.wanted[f"{MODULE}.weight"], wanted.numpy())


@pytest.mark.parametrize(
    ("name", "tensor", "found", "expected"),
    [
        pytest.param(G, None, W, "a global_scale", id="no-divisor"),
        pytest.param(S, None, W, S, id="no-scale"),
        pytest.param(G, torch.zeros(1), G, "not zero", id="divisor-zero"),
        pytest.param(G, torch.tensor([float("inf")]), G, "finite", id="divisor-infinite"),
        pytest.param(G, torch.tensor([float("nan")]), G, "finite", id="divisor-nan"),
        pytest.param(G, torch.tensor([-2688.0]), G, "not negative", id="divisor-negative"),
        pytest.param(G, torch.ones(2), G, "[1]", id="two-divisors"),
        pytest.param(G, torch.ones(1, dtype=torch.float64), G, "F32", id="divisor-float64"),
        pytest.param(S, torch.ones(4, 8).to(torch.float8_e4m3fn), "[4, 8]", "[8, 4]",
                     id="scale-transposed"),
        pytest.param(S, torch.ones(8, 2).to(torch.float8_e4m3fn), "[8, 2]", "[8, 4]",
                     id="scale-of-groups-of-32"),
        pytest.param(S, torch.ones(8, 4), "F32", "F8_E4M3", id="scale-float32"),
        pytest.param(S, torch.ones(8, 4, dtype=torch.uint8), "U8", "F8_E4M3", id="scale-exponents"),
        pytest.param(S, torch.full((8, 4), -1.0).to(torch.float8_e4m3fn), "-1", "not negative",
                     id="scale-negative"),
        pytest.param(S, torch.full((8, 4), 0x7F, dtype=torch.uint8).view(torch.float8_e4m3fn),
                     "NaN", "finite", id="scale-nan"),
        pytest.param(S, torch.zeros(8, 4).to(torch.float8_e4m3fn), "zero", "zero codes",
                     id="scale-zero-over-codes"),
        pytest.param(W, torch.ones(8, 32, dtype=torch.int8), "I8", "U8", id="codes-int8"),
        pytest.param(W, torch.ones(8, 33, dtype=torch.uint8), "[8, 33]", "16 divides",
                     id="columns-not-in-groups"),
    ],
)  # fmt: skip
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, name: str, tensor: "torch.Tensor | None",
    found: str, expected: str,
) -> None:  # fmt: skip
    tensors = dict(made((8, 64)).tensors)
    if tensor is None:
        del tensors[name]
    else:
        tensors[name] = tensor
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": SETTINGS})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected
