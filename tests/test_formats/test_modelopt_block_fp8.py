# SPDX-License-Identifier: Apache-2.0
"""ModelOpt FP8_PB_WO: row M1 of the format reference's test matrix."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import format_kit
import pytest
import testkit
import torch

from vllm_ascend_bringup.errors import FormatError

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
NAME = "model.layers.0.mlp.up_proj.weight"
MODELOPT: "dict[str, Any]" = {"quant_method": "modelopt", "quant_algo": "FP8_PB_WO"}
FILE: "dict[str, Any]" = {
    "producer": {"name": "modelopt"}, "quantization": {"quant_algo": "fp8_pb_wo"},
}  # fmt: skip
ALIAS: "dict[str, Any]" = {"quant_method": "modelopt", "quant_algo": "FP8_BLOCK_SCALES"}


@pytest.mark.parametrize("settings", [MODELOPT, FILE, ALIAS], ids=("flat", "file", "alias"))
@pytest.mark.parametrize("four", [True, False], ids=("[R,1,C,1]", "[R,C]"))
@pytest.mark.parametrize(
    "shape", [(256, 256), (128, 256), (256, 128), (64, 96), (160, 130), (2, 130, 140)], ids=str
)
def test_m1_only_dimensions_one_and_three_may_go(
    check_format: Check, settings: "dict[str, Any]", shape: tuple[int, ...], four: bool
) -> None:
    *experts, R, C = format_kit.grid_of(shape, (128, 128))
    made = format_kit.fp8(
        NAME, shape, (128, 128), scale=f"{NAME}_scale",
        stored=(*experts, R, 1, C, 1) if four else None,
    )  # fmt: skip
    check_format(made, settings)


@pytest.mark.parametrize(
    "scale", [(2, 1, 3, 1, 1), (2, 3, 1, 1), (1, 2, 3, 1), (1, 2, 1, 3), (3, 1, 2, 1), (2, 1, 3),
              (6,), (2, 128, 3, 1), (3, 2)], ids=str
)  # fmt: skip
def test_refused(tmp_path: Path, decode_checkpoint: Decode, scale: tuple[int, ...]) -> None:
    tensors = {
        NAME: torch.ones(256, 384).to(torch.float8_e4m3fn), f"{NAME}_scale": torch.ones(scale),
    }  # fmt: skip
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": MODELOPT})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert str(list(scale)) in caught.value.found
    assert "[2, 1, 3, 1]" in caught.value.expected
    assert "[2, 3]" in caught.value.expected
