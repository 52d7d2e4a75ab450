# SPDX-License-Identifier: Apache-2.0
"""Group fp8, which compressed-tensors and Quark write: one float scale per group of columns."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import numpy as np
import pytest
import testkit
import torch

from vllm_ascend_bringup.checkpoint import TensorInfo
from vllm_ascend_bringup.errors import FormatError
from vllm_ascend_bringup.formats.base import Scheme, Stored, Unfit
from vllm_ascend_bringup.formats.group_fp8 import GroupFp8

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
NAME = "model.layers.0.mlp.up_proj.weight"


def compressed(group: int) -> "dict[str, Any]":
    weights = {"num_bits": 8, "type": "float", "strategy": "group", "group_size": group}
    return {
        "quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }  # fmt: skip


def quark(group: int) -> "dict[str, Any]":
    weight = {"dtype": "fp8_e4m3", "qscheme": "per_group", "group_size": group}
    return {"quant_method": "quark", "global_quant_config": {"weight": weight}}


@pytest.mark.parametrize("settings", [compressed, quark], ids=("ct", "quark"))
@pytest.mark.parametrize("dtype", ["F32", "BF16", "F16"])
@pytest.mark.parametrize(
    ("shape", "group"),
    [((8, 64), 16), ((1, 16), 16), ((5, 130), 64), ((7, 3), 8), ((2, 3, 48), 16)],
    ids=str,
)
def test_groups(
    check_format: Check, settings: "Callable[[int], dict[str, Any]]", shape: tuple[int, ...],
    group: int, dtype: str,
) -> None:  # fmt: skip
    made = format_kit.fp8(NAME, shape, (1, group), scale=f"{NAME}_scale", dtype=dtype)
    check_format(made, settings(group))


def test_groups_of_32_with_float_scales_are_not_mxfp8(check_format: Check) -> None:
    made = format_kit.fp8(NAME, (8, 64), (1, 32), scale=f"{NAME}_scale", dtype="F32")
    check_format(made, compressed(32))


def test_as_compressed_tensors_dequantizes() -> None:
    forward = pytest.importorskip("compressed_tensors.quantization.lifecycle.forward")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    made = format_kit.fp8(NAME, (8, 64), (1, 16), scale=f"{NAME}_scale")
    args = quantization.QuantizationArgs(num_bits=8, type="float", strategy="group", group_size=16)
    wanted = forward.dequantize(
        made.tensors[NAME].float(), made.tensors[f"{NAME}_scale"], args=args, dtype=torch.float32
    )
    assert np.array_equal(made.wanted[NAME], wanted.numpy())


@pytest.mark.parametrize(
    ("scale", "found", "expected"),
    [
        pytest.param(torch.ones(8, 4, dtype=torch.uint8), "U8", "F32", id="bytes"),
        pytest.param(torch.ones(8, 3), "[8, 3]", "[8, 4]", id="one-group-less"),
        pytest.param(torch.ones(4, 8), "[4, 8]", "[8, 4]", id="transposed"),
        pytest.param(torch.ones(8, 1), "[8, 1]", "[8, 4]", id="per-row"),
    ],
)
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, scale: torch.Tensor, found: str, expected: str
) -> None:
    tensors = {NAME: torch.ones(8, 64).to(torch.float8_e4m3fn), f"{NAME}_scale": scale}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": compressed(16)})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected


def test_without_a_group_size() -> None:
    stored = Stored(NAME, TensorInfo(NAME, "F8_E4M3", (8, 64), "model.safetensors"), {})
    with pytest.raises(Unfit, match="group size"):
        GroupFp8().layouts(stored, Scheme(("group_fp8",)))
