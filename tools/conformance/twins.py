# SPDX-License-Identifier: Apache-2.0
"""The sweep's own quantizer, and twins: the same random weights as block fp8 and as plain bf16.

Nothing of the package is used here: it must not share a mistake with the decoder it checks.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

BLOCK = 128
_E4M3_MAX = 448.0
QUANTIZATION = {
    "quant_method": "fp8",
    "activation_scheme": "dynamic",
    "weight_block_size": [BLOCK, BLOCK],
}
# What published fp8 checkpoints leave in bf16 too: embeddings, heads, routers, convolutions, and
# the mixing matrices of hyper-connections.
_DENSE = re.compile(r"embed|\.w[tp]e\.|head\.|norm|conv|router|\.gate\.|bias|A_log|\.hc_|\.ape$")
_SMALLEST = 64
_FILE = "model.safetensors"


@dataclass(frozen=True)
class Twins:
    """Two checkpoints of the same weights. ``elements``: how many are fp8 in one of them."""

    fp8: Path
    dense: Path
    elements: int


def write_twins(folder: Path, model: Any) -> Twins:
    """Save a model of transformers twice, with random weights that are fp8 numbers in both."""
    model.save_pretrained(folder / "saved")
    config = json.loads((folder / "saved" / "config.json").read_text())
    config |= {"dtype": "bfloat16", "torch_dtype": "bfloat16"}
    fp8: dict[str, torch.Tensor] = {}
    dense: dict[str, torch.Tensor] = {}
    elements = 0
    for name, saved in _tensors(folder / "saved").items():
        weight = _randomized(name, saved)
        if not _is_quantized(name, weight):
            stored = weight.to(torch.bfloat16) if weight.is_floating_point() else weight
            fp8[name] = dense[name] = stored.contiguous()
            continue
        codes, scale = quantize(weight)
        fp8 |= {name: codes, name + "_scale_inv": scale}
        dense[name] = dequantize(codes, scale)
        elements += weight.numel()
    _write(folder / "fp8", fp8, {**config, "quantization_config": QUANTIZATION})
    _write(folder / "dense", dense, config)
    return Twins(folder / "fp8", folder / "dense", elements)


def quantize(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """``[..., N, K]`` as e4m3 codes and one float32 scale for each block of 128 x 128."""
    blocks = _blocks(weight.float())
    scale = blocks.abs().amax(dim=(-3, -1)) / _E4M3_MAX
    scale[scale == 0] = 1
    codes = blocks / scale[..., :, None, :, None]
    return _unblocked(codes, weight.shape).to(torch.float8_e4m3fn), scale


def dequantize(codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """The definition: the float32 product of code and scale, rounded once to bf16."""
    product = _blocks(codes.float()) * scale[..., :, None, :, None]
    return _unblocked(product, codes.shape).to(torch.bfloat16)


def _blocks(matrix: torch.Tensor) -> torch.Tensor:
    """``[..., N, K]``, padded with zeros, as ``[..., rows of blocks, 128, columns, 128]``."""
    rows, columns = (math.ceil(size / BLOCK) for size in matrix.shape[-2:])
    padding = (0, columns * BLOCK - matrix.shape[-1], 0, rows * BLOCK - matrix.shape[-2])
    padded = torch.nn.functional.pad(matrix, padding)
    return padded.reshape(*matrix.shape[:-2], rows, BLOCK, columns, BLOCK)


def _unblocked(blocks: torch.Tensor, shape: torch.Size) -> torch.Tensor:
    whole = blocks.flatten(-4, -3).flatten(-2, -1)
    return whole[..., : shape[-2], : shape[-1]].contiguous()


def _is_quantized(name: str, weight: torch.Tensor) -> bool:
    large = weight.dim() in (2, 3) and min(weight.shape[-2:]) >= _SMALLEST
    return large and weight.is_floating_point() and not _DENSE.search(name)


def _randomized(name: str, saved: torch.Tensor) -> torch.Tensor:
    """Weights of a size that lets every one of them matter; the initial ones are too small.

    They vary by a factor of four from block to block, so that a scale of the wrong block cannot
    pass for the right one.
    """
    if _is_quantized(name, saved):
        *_, rows, columns = saved.shape
        grid = (*saved.shape[:-2], math.ceil(rows / BLOCK), math.ceil(columns / BLOCK))
        contrast = 2 ** torch.empty(grid).uniform_(-1, 1)
        spread = contrast.repeat_interleave(BLOCK, -2).repeat_interleave(BLOCK, -1)
        return torch.randn(saved.shape) * spread[..., :rows, :columns] / math.sqrt(columns)
    if saved.dim() == 2 and name.endswith(".weight"):
        return torch.randn(saved.shape) / math.sqrt(saved.shape[-1])
    if name.endswith(".bias") and not saved.any():
        return torch.randn(saved.shape) * 0.1
    return saved


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for shard in sorted(folder.glob("*.safetensors")):
        tensors |= load_file(shard)
    return dict(sorted(tensors.items()))


def _write(folder: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any]) -> None:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2))
    save_file(dict(tensors), folder / _FILE, metadata={"format": "pt"})
