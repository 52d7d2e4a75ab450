# SPDX-License-Identifier: Apache-2.0
"""Per-channel fp8 of experts [E, in, out]: row F1 of the format reference's test matrix."""

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
EXPERTS = "language_model.model.layers.1.feed_forward.experts"
GATE_UP, DOWN = f"{EXPERTS}.gate_up_proj", f"{EXPERTS}.down_proj"
FBGEMM: "dict[str, Any]" = {
    "quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0,
    "modules_to_not_convert": ["lm_head"],
}  # fmt: skip
MODELOPT: "dict[str, Any]" = {
    "quant_method": "modelopt", "quant_algo": "FP8_PER_CHANNEL_PER_TOKEN",
}  # fmt: skip


def columns(name: str, shape: tuple[int, int, int], **options: Any) -> format_kit.Made:
    return format_kit.fp8(name, shape, (shape[1], 1), **{"scale": f"{name}_scale", **options})


@pytest.mark.parametrize("dtype", ["F32", "BF16"])
@pytest.mark.parametrize(("E", "H", "inner"), [(2, 4, 6), (2, 4, 4), (3, 7, 5), (1, 1, 2)], ids=str)
def test_f1_llama_4_turns_the_scale_of_down_proj(
    check_format: Check, E: int, H: int, inner: int, dtype: str
) -> None:
    made = columns(GATE_UP, (E, H, 2 * inner), dtype=dtype)
    made |= columns(DOWN, (E, inner, H), dtype=dtype, swapped=True)
    assert made.tensors[f"{GATE_UP}_scale"].shape == (E, 1, 2 * inner)
    assert made.tensors[f"{DOWN}_scale"].shape == (E, H, 1)
    check_format(made, FBGEMM)


def test_f1_with_equal_sizes_the_other_way_round_would_be_silent() -> None:
    made = columns(DOWN, (2, 4, 4), swapped=True)
    codes = format_kit.E4M3[made.tensors[DOWN].view(torch.uint8).numpy()]
    as_stored = codes * format_kit.as_floats(made.tensors[f"{DOWN}_scale"])
    assert as_stored.shape == made.wanted[DOWN].shape
    assert not np.array_equal(as_stored, made.wanted[DOWN])


def test_linear_layers_beside_the_experts_are_scaled_per_row(check_format: Check) -> None:
    linear = "language_model.model.layers.1.feed_forward.shared_expert.down_proj.weight"
    made = format_kit.fp8(linear, (6, 8), (1, 8), scale=f"{linear}_scale")
    check_format(made | columns(DOWN, (2, 4, 6), swapped=True), FBGEMM)


@pytest.mark.parametrize("name", [GATE_UP, DOWN], ids=("gate-up", "down"))
@pytest.mark.parametrize("shape", [(2, 4, 6), (3, 5, 5), (1, 2, 8)], ids=str)
def test_modelopt_keeps_one_scale_per_output(
    check_format: Check, name: str, shape: tuple[int, int, int]
) -> None:
    E, _, out = shape
    made = columns(name, shape, scale=f"{name}_weight_scale", stored=(E, out))
    check_format(made | format_kit.dropped(f"{name}_input_scale"), MODELOPT)


@pytest.mark.parametrize(
    ("settings", "name", "weight", "scale", "expected"),
    [
        pytest.param(FBGEMM, f"{DOWN}_scale", (2, 6, 4), (2, 6, 1), "[2, 4, 1]", id="per-input"),
        pytest.param(FBGEMM, f"{DOWN}_scale", (2, 6, 4), (2, 4), "[2, 4, 1]", id="2-d"),
        pytest.param(FBGEMM, f"{DOWN}_scale", (2, 6, 4), (1, 4, 1), "[2, 4, 1]", id="one-expert"),
        pytest.param(FBGEMM, f"{DOWN}_scale", (6, 4), (4, 1), "[E, in, out]", id="no-experts"),
        pytest.param(MODELOPT, f"{DOWN}_weight_scale", (2, 6, 4), (2, 6), "[2, 4]",
                     id="modelopt-per-input"),
        pytest.param(MODELOPT, f"{DOWN}_weight_scale", (2, 6, 4), (2, 6, 1), "[2, 4]",
                     id="modelopt-3-d"),
    ],
)  # fmt: skip
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, settings: "dict[str, Any]", name: str,
    weight: tuple[int, ...], scale: tuple[int, ...], expected: str,
) -> None:  # fmt: skip
    tensors = {DOWN: torch.ones(weight).to(torch.float8_e4m3fn), name: torch.ones(scale)}
    testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings})
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert name in caught.value.found
    assert str(list(scale)) in caught.value.found
    assert expected in caught.value.expected
