# SPDX-License-Identifier: Apache-2.0
"""MiMo-V2's fused qkv_proj: row H2 of the format reference's test matrix."""

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
from vllm_ascend_bringup.formats.base import QkvChunks, Scheme, Stored
from vllm_ascend_bringup.formats.chunked_qkv_fp8 import ChunkedQkvFp8

Check = Callable[..., None]
Decode = Callable[..., dict[str, torch.Tensor]]
Rows = tuple[int, int, int]
ATTENTION = "model.layers.0.self_attn"
FUSED = f"{ATTENTION}.qkv_proj.weight"
# Per chunk: 4 query heads of 36, one key head, one value head of 12; sliding windows have two.
CONFIG: "dict[str, Any]" = {
    "model_type": "mimo_v2_flash", "num_attention_heads": 8, "num_key_value_heads": 2,
    "head_dim": 36, "v_head_dim": 12, "swa_num_attention_heads": 8, "swa_num_key_value_heads": 4,
    "swa_head_dim": 36, "swa_v_head_dim": 12,
}  # fmt: skip
GLOBAL, SLIDING = (144, 36, 12), (144, 72, 24)


def settings(block: tuple[int, int]) -> "dict[str, Any]":
    return {"quant_method": "fp8", "weight_block_size": list(block)}


def fused(
    module: str, count: int, rows: Rows, columns: int, block: tuple[int, int], dtype: str = "F32"
) -> format_kit.Made:
    """Row by row: which chunk, which row of scales, and whether it is of Q, K or V."""
    of_chunk = sum(rows)
    tiles = -(-of_chunk // block[0])
    name = f"{module}.qkv_proj.weight"
    codes = format_kit.codes8(name, (count * of_chunk, columns))
    scale = format_kit.scales(f"{name}_scale_inv", (count * tiles, -(-columns // block[1])), dtype)
    factor = format_kit.as_floats(scale).repeat(block[1], 1)[:, :columns]
    parts: dict[str, list[format_kit.Floats]] = {"q": [], "k": [], "v": []}
    at = 0
    for chunk in range(count):
        row = 0
        for kind, size in zip("qkv", rows, strict=True):
            for _ in range(size):
                tile = chunk * tiles + row // block[0]
                parts[kind].append(format_kit.E4M3[codes[at]] * factor[tile])
                at, row = at + 1, row + 1
    assert at == len(codes)
    return format_kit.Made(
        {name: torch.from_numpy(codes).view(torch.float8_e4m3fn), f"{name}_scale_inv": scale},
        {f"{module}.{kind}_proj.weight": np.stack(part) for kind, part in parts.items()},
    )


def test_h2_of_the_reference(check_format: Check) -> None:
    config = {**CONFIG, "head_dim": 32, "v_head_dim": 32}
    made = fused(ATTENTION, 2, (128, 32, 32), 128, (128, 128))
    assert made.tensors[FUSED].shape == (384, 128)
    assert made.tensors[f"{FUSED}_scale_inv"].shape == (4, 1)
    check_format(made, settings((128, 128)), config)


@pytest.mark.parametrize("dtype", ["F32", "BF16", "F8_E8M0"])
@pytest.mark.parametrize("rows", [GLOBAL, SLIDING], ids=("global", "sliding"))
@pytest.mark.parametrize("block", [(128, 128), (64, 32), (16, 16), (7, 5)], ids=str)
def test_h2_chunks_tiles_and_order_of_heads(
    check_format: Check, rows: Rows, block: tuple[int, int], dtype: str
) -> None:
    check_format(fused(ATTENTION, 2, rows, 40, block, dtype), settings(block), CONFIG)


def test_a_grid_that_both_readings_share_is_still_put_in_order(check_format: Check) -> None:
    made = fused(ATTENTION, 2, SLIDING, 40, (48, 48))  # 240 rows a chunk are five whole blocks
    assert made.tensors[f"{FUSED}_scale_inv"].shape == format_kit.grid_of((480, 40), (48, 48))
    check_format(made, settings((48, 48)), CONFIG)


def test_layers_of_both_kinds_and_other_weights(check_format: Check) -> None:
    block, output = (16, 16), f"{ATTENTION}.o_proj.weight"
    made = fused(ATTENTION, 2, GLOBAL, 40, block)
    made |= fused("model.layers.1.self_attn", 2, SLIDING, 40, block)
    made |= format_kit.fp8(output, (40, 96), block, scale=f"{output}_scale_inv")
    check_format(made, settings(block), CONFIG)


def test_grids_of_the_real_model() -> None:
    """108 rows of scales for global attention, where a grid of its own would have 106."""
    chunks = QkvChunks(4, ((3072, 192, 128), (3072, 384, 256)))
    scheme = Scheme(("chunked_qkv_fp8",), (128, 128), chunks=chunks)
    for rows, grid in ((4 * 3392, (108, 32)), (4 * 3712, (116, 32))):
        codes = TensorInfo(FUSED, "F8_E4M3", (rows, 4096), "model.safetensors")
        assert list(ChunkedQkvFp8().layouts(Stored(FUSED, codes, {}), scheme)) == [grid]


SAME_SUM = {**CONFIG, "swa_num_key_value_heads": 2, "swa_head_dim": 32, "swa_v_head_dim": 32}


@pytest.mark.parametrize(
    ("config", "weight", "scale", "expected"),
    [
        pytest.param(CONFIG, (384, 128), (3, 1), "[4, 1]", id="grid-of-the-whole-weight"),
        pytest.param(CONFIG, (384, 128), (5, 1), "[4, 1]", id="one-row-more"),
        pytest.param(CONFIG, (384, 128), (4, 2), "[4, 1]", id="one-column-more"),
        pytest.param(CONFIG, (400, 128), (4, 1), "384 or 480 rows", id="rows-of-no-layer"),
        pytest.param(SAME_SUM, (384, 128), (4, 1), "no two ways", id="rows-of-two-layers"),
        pytest.param({"model_type": "other"}, (384, 128), (4, 1), "[3, 1]", id="other-model"),
    ],
)
def test_refused(
    tmp_path: Path, decode_checkpoint: Decode, config: "dict[str, Any]", weight: tuple[int, int],
    scale: tuple[int, int], expected: str,
) -> None:  # fmt: skip
    tensors = {
        FUSED: torch.ones(weight).to(torch.float8_e4m3fn),
        f"{FUSED}_scale_inv": torch.ones(scale),
    }
    testkit.write_checkpoint(
        tmp_path, tensors, {**config, "quantization_config": settings((128, 128))}
    )
    with pytest.raises(FormatError) as caught:
        decode_checkpoint(tmp_path)
    assert f"{FUSED}_scale_inv" in caught.value.found
    assert str(list(scale)) in caught.value.found
    assert expected in caught.value.expected


def test_a_part_that_is_also_on_disk_is_refused(tmp_path: Path, decode_checkpoint: Decode) -> None:
    made = fused(ATTENTION, 2, GLOBAL, 40, (16, 16))
    name = f"{ATTENTION}.k_proj.weight"
    testkit.write_checkpoint(
        tmp_path, {**made.tensors, name: torch.ones(2, 2).bfloat16()},
        {**CONFIG, "quantization_config": settings((16, 16))},
    )  # fmt: skip
    with pytest.raises(FormatError, match=f"decodes to {name}, which is also a tensor on disk"):
        decode_checkpoint(tmp_path)


def test_zero_scales_of_a_lost_tile_are_found(tmp_path: Path, decode_checkpoint: Decode) -> None:
    made = fused(ATTENTION, 2, GLOBAL, 40, (128, 128))
    scale = made.tensors[f"{FUSED}_scale_inv"].clone()
    scale[2] = 0.0
    testkit.write_checkpoint(
        tmp_path, {**made.tensors, f"{FUSED}_scale_inv": scale},
        {**CONFIG, "quantization_config": settings((128, 128))},
    )  # fmt: skip
    with pytest.raises(FormatError, match=f"scale {FUSED}_scale_inv .* is zero at"):
        decode_checkpoint(tmp_path)
