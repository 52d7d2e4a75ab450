# SPDX-License-Identifier: Apache-2.0
"""compressed-tensors pack-quantized: row P1 of the format reference's test matrix."""

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
MODULE = "model.layers.0.mlp.experts.0.up_proj"
W, S = f"{MODULE}.weight_packed", f"{MODULE}.weight_scale"
Z, SHAPE = f"{MODULE}.weight_zero_point", f"{MODULE}.weight_shape"


def settings(bits: int = 4, group: int | None = 32, symmetric: bool = True) -> "dict[str, Any]":
    weights = {
        "num_bits": bits, "type": "int", "symmetric": symmetric, "group_size": group or -1,
        "strategy": "group" if group else "channel",
    }  # fmt: skip
    return {
        "quant_method": "compressed-tensors", "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
        "ignore": ["lm_head", "re:.*self_attn.*"],
    }  # fmt: skip


@pytest.mark.parametrize("symmetric", [True, False], ids=("sym", "asym"))
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("shape", "group"),
    [((4, 64), 32), ((16, 64), 32), ((5, 128), 128), ((3, 44), None), ((1, 8), None),
     ((9, 1), None), ((13, 44), 32), ((11, 40), 16), ((2, 3, 64), 32), ((2, 9, 44), None)],
    ids=str,
)  # fmt: skip
def test_p1_integers(
    check_format: Check, shape: tuple[int, ...], group: int | None, bits: int, symmetric: bool
) -> None:
    made = format_kit.packed_int(MODULE, shape, bits=bits, group=group, symmetric=symmetric)
    per_word = 32 // bits
    assert made.tensors[W].shape == (*shape[:-1], -(-shape[-1] // per_word))
    if not symmetric:
        assert made.tensors[Z].shape[-2] == -(-shape[-2] // per_word)
    check_format(made, settings(bits, group, symmetric))


@pytest.mark.parametrize("dtype", ["BF16", "F16", "F32"])
@pytest.mark.parametrize("shape_dtype", [torch.int64, torch.int32], ids=("I64", "I32"))
def test_dtypes_of_scale_and_shape(
    check_format: Check, dtype: str, shape_dtype: torch.dtype
) -> None:
    made = format_kit.packed_int(MODULE, (6, 64), group=32, dtype=dtype, shape_dtype=shape_dtype)
    check_format(made, settings())


def test_shape_of_one_expert_of_a_stack(check_format: Check) -> None:
    made = format_kit.packed_int(MODULE, (2, 6, 44), shape_of=2)
    assert made.tensors[SHAPE].tolist() == [6, 44]
    check_format(made, settings(group=None))


def test_order_in_a_word_and_the_offset(tmp_path: Path, decode_checkpoint: Decode) -> None:
    tensors = {
        W: torch.tensor([[0x76543210], [-0x01234568]], dtype=torch.int32),  # second: 0xfedcba98
        S: torch.tensor([[1.0], [0.5]], dtype=torch.bfloat16),
        SHAPE: torch.tensor([2, 8]),
    }
    folder = testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings(4, None)})
    found = decode_checkpoint(folder)[f"{MODULE}.weight"]
    assert found.tolist() == [[*range(-8, 0)], [n / 2 for n in range(8)]]


def test_order_of_zero_points_is_along_rows(tmp_path: Path, decode_checkpoint: Decode) -> None:
    tensors = {
        W: torch.full((9, 1), 0x11111111 * 5, dtype=torch.int32),
        S: torch.ones(9, 1, dtype=torch.bfloat16),
        Z: torch.tensor([[0x76543210], [0x00000009]], dtype=torch.int32),
        SHAPE: torch.tensor([9, 8]),
    }
    folder = testkit.write_checkpoint(
        tmp_path, tensors, {"quantization_config": settings(4, None, False)}
    )
    found = decode_checkpoint(folder)[f"{MODULE}.weight"]
    assert found.tolist() == [[float(5 - zero)] * 8 for zero in (*range(8), 9)]


def test_zero_scale_over_zeros_only(tmp_path: Path, decode_checkpoint: Decode) -> None:
    for word, refused in ((-0x77777778, False), (-0x77777777, True)):  # eights; one nine
        tensors = {
            W: torch.tensor([[word] * 8], dtype=torch.int32),
            S: torch.tensor([[0.0, 1.0]]),
            SHAPE: torch.tensor([1, 64]),
        }
        testkit.write_checkpoint(tmp_path, tensors, {"quantization_config": settings()})
        if refused:
            with pytest.raises(FormatError, match=r"is zero at \[0, 0\]"):
                decode_checkpoint(tmp_path)
        else:
            assert decode_checkpoint(tmp_path)[f"{MODULE}.weight"].tolist() == [[0.0] * 64]


@pytest.mark.parametrize("symmetric", [True, False], ids=("sym", "asym"))
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(
    ("shape", "group"), [((16, 64), 32), ((4, 64), 32), ((13, 44), None)], ids=str
)
def test_as_compressed_tensors_decompresses(
    shape: tuple[int, int], group: int | None, bits: int, symmetric: bool
) -> None:
    base = pytest.importorskip("compressed_tensors.compressors.pack_quantized.base")
    quantization = pytest.importorskip("compressed_tensors.quantization")
    made = format_kit.packed_int(
        MODULE, shape, bits=bits, group=group, symmetric=symmetric, dtype="F32"
    )
    scheme = quantization.QuantizationScheme.model_validate(
        settings(bits, group, symmetric)["config_groups"]["group_0"]
    )
    state = {name.removeprefix(f"{MODULE}."): tensor for name, tensor in made.tensors.items()}
    wanted = base.PackedQuantizationCompressor.decompress(state, scheme)["weight"]
    assert np.array_equal(made.wanted[f"{MODULE}.weight"], wanted.numpy())


def ones(*shape: int) -> torch.Tensor:
    return torch.ones(shape, dtype=torch.int32)


@pytest.mark.parametrize(
    ("change", "using", "found", "expected"),
    [
        pytest.param({SHAPE: None}, settings(), W, "a shape", id="no-shape"),
        pytest.param({S: None}, settings(), W, S, id="no-scale"),
        pytest.param({SHAPE: torch.tensor([8, 57]), S: torch.ones(8, 16)}, settings(group=4),
                     "says [8, 57]", "[8, 16]", id="shape-fits-but-scale-does-not"),
        pytest.param({SHAPE: torch.tensor([8, 56])}, settings(), "says [8, 56]", "[8, 8]",
                     id="shape-of-fewer-words"),
        pytest.param({SHAPE: torch.tensor([8, 65])}, settings(), "says [8, 65]", "[8, 8]",
                     id="shape-of-more-words"),
        pytest.param({SHAPE: torch.tensor([4, 64])}, settings(), "says [4, 64]", "[8, 8]",
                     id="shape-of-fewer-rows"),
        pytest.param({SHAPE: torch.tensor([8, -64])}, settings(), "says [8, -64]", "[8, 8]",
                     id="shape-negative"),
        pytest.param({SHAPE: torch.tensor([64])}, settings(), SHAPE, "weight_shape I64 [2]",
                     id="shape-of-one"),
        pytest.param({SHAPE: torch.tensor([8.0, 64.0])}, settings(), SHAPE, "weight_shape I64",
                     id="shape-of-floats"),
        pytest.param({S: torch.ones(8, 1)}, settings(), "[8, 1]", "[8, 2]", id="scale-per-row"),
        pytest.param({S: torch.ones(2, 8)}, settings(), "[2, 8]", "[8, 2]", id="scale-transposed"),
        pytest.param({S: torch.ones(8, 2, dtype=torch.uint8)}, settings(), "U8", "F32",
                     id="scale-of-bytes"),
        pytest.param({S: torch.full((8, 2), -1.0)}, settings(), "-1", "not negative",
                     id="scale-negative"),
        pytest.param({}, settings(group=64), "[8, 2]", "[8, 1]", id="other-group-size"),
        pytest.param({}, settings(bits=8), "[8, 2]", "[8, 1]", id="other-bits"),
        pytest.param({}, settings(symmetric=False), W, "zero points", id="no-zero-points"),
        pytest.param({Z: ones(1, 2)}, settings(), Z, "no zero points", id="needless-zero-points"),
        pytest.param({Z: ones(8, 2)}, settings(symmetric=False), Z, "8 in a word",
                     id="zero-points-not-packed"),
        pytest.param({Z: ones(2, 1)}, settings(symmetric=False), Z, "8 in a word",
                     id="zero-points-along-columns"),
        pytest.param({Z: ones(1, 2).char()}, settings(symmetric=False), Z, "I32",
                     id="zero-points-int8"),
        pytest.param({W: ones(8, 8).char()}, settings(), "I8", "I32", id="codes-int8"),
        pytest.param({f"{MODULE}.weight_g_idx": ones(64)}, settings(), "weight_g_idx", "alone",
                     id="reordered-columns"),
        pytest.param({f"{MODULE}.weight": torch.ones(8, 64)}, settings(), f"{MODULE}.weight",
                     "each weight once", id="decoded-weight-too"),
    ],
)  # fmt: skip
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, change: "dict[str, torch.Tensor | None]",
    using: "dict[str, Any]", found: str, expected: str,
) -> None:  # fmt: skip
    tensors = {**format_kit.packed_int(MODULE, (8, 64), group=32).tensors, **change}
    testkit.write_checkpoint(
        tmp_path,
        {n: t for n, t in tensors.items() if t is not None},
        {"quantization_config": using},
    )
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert found in caught.value.found
    assert expected in caught.value.expected
