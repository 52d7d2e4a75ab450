# SPDX-License-Identifier: Apache-2.0
"""What the tests share: an independent quantizer and a writer of small checkpoints.

The quantizer is numpy and loops over blocks on purpose: it must not share a mistake with the
decoder it checks.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

E4M3_MAX = 448.0

# bf16 log-probabilities of vLLM and transformers differ by their order of summation. The table is
# by dtype of the weights: the bound is what 8 bits of mantissa allow a sum of a few hundred
# products to drift, relative to log-probabilities of order 10.
LOGPROB_TOLERANCE = {torch.bfloat16: 0.15, torch.float16: 0.03, torch.float32: 2e-3}


def _codes(values: np.ndarray) -> torch.Tensor:
    """Round float32 to the nearest e4m3fn value, ties to even, by searching the table of values."""
    table = torch.arange(127, dtype=torch.uint8).view(torch.float8_e4m3fn).float().numpy()
    magnitude = np.minimum(np.abs(values), E4M3_MAX)
    above = np.clip(np.searchsorted(table, magnitude), 1, 126)
    below = above - 1
    to_above, to_below = table[above] - magnitude, magnitude - table[below]
    tie_up = (to_above == to_below) & (above % 2 == 0)
    code = np.where((to_above < to_below) | tie_up, above, below).astype(np.uint8)
    code |= np.where(np.signbit(values), 0x80, 0).astype(np.uint8)
    return torch.from_numpy(code)


def quantize(weight: torch.Tensor, block: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Quantize ``[N, K]``: codes uint8 ``[N, K]``, scale float32 ``[ceil(N/bn), ceil(K/bk)]``."""
    values = weight.float().numpy()
    N, K = values.shape
    bn, bk = block
    codes = torch.empty(N, K, dtype=torch.uint8)
    scale = torch.ones(-(-N // bn), -(-K // bk))
    for r in range(scale.shape[0]):
        for c in range(scale.shape[1]):
            part = np.s_[r * bn : (r + 1) * bn, c * bk : (c + 1) * bk]
            largest = float(np.abs(values[part]).max())
            if largest > 0:
                scale[r, c] = largest / E4M3_MAX
            codes[part] = _codes(values[part] / scale[r, c].numpy())
    return codes, scale


def dequantize(
    codes: torch.Tensor, scale: torch.Tensor, block: tuple[int, int], dtype: torch.dtype
) -> torch.Tensor:
    """The definition, block by block: float32 product, one rounding."""
    out = torch.empty(codes.shape, dtype=dtype)
    values = codes.view(torch.float8_e4m3fn).float()
    for r in range(scale.shape[0]):
        for c in range(scale.shape[1]):
            part = np.s_[r * block[0] : (r + 1) * block[0], c * block[1] : (c + 1) * block[1]]
            out[part] = (values[part] * scale[r, c].float()).to(dtype)
    return out


def write_checkpoint(
    folder: Path,
    tensors: Mapping[str, torch.Tensor],
    config: Mapping[str, Any],
    shards: Sequence[Sequence[str]] | None = None,
) -> Path:
    """Write ``tensors`` as one file, or as shards with an index if ``shards`` lists names."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(dict(config), indent=2))
    plain = {name: tensor.contiguous() for name, tensor in tensors.items()}
    if shards is None:
        save_file(plain, folder / "model.safetensors", metadata={"format": "pt"})
        return folder
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file({n: plain[n] for n in names}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": weight_map}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder
