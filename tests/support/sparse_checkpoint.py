# SPDX-License-Identifier: Apache-2.0
"""A checkpoint of DeepSeek-V3's real size, made of headers: its shards are files without data.

Names and shapes of the main model are those of transformers' model class with its default
config, which is DeepSeek-V3's. The dtypes, the layer for multi-token prediction and the division
into shards follow the published checkpoint.
"""

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

Shape = tuple[int, ...]
Header = dict[str, dict[str, Any]]

BLOCK = 128
# The main model fills the first 160 shards, the layer for multi-token prediction the last three.
MAIN_SHARDS, MTP_SHARDS = 160, 3
SHARDS = MAIN_SHARDS + MTP_SHARDS
QUANTIZATION = {
    "activation_scheme": "dynamic",
    "fmt": "e4m3",
    "quant_method": "fp8",
    "weight_block_size": [BLOCK, BLOCK],
}
# In the order in which the safetensors library writes them.
_BYTES = {"F32": 4, "BF16": 2, "I8": 1, "F8_E4M3": 1}


def write_deepseek_v3(folder: Path) -> Path:
    """Write config, index and shards to ``folder``; 20 MB on disk, 641 GiB by file size."""
    folder.mkdir(parents=True, exist_ok=True)
    config = DeepseekV3Config(
        architectures=["DeepseekV3ForCausalLM"], dtype="bfloat16", quantization_config=QUANTIZATION
    )
    # As published; transformers has no such option, vLLM reads it.
    settings = {**config.to_dict(), "topk_method": "noaux_tc"}
    (folder / "config.json").write_text(json.dumps(settings, indent=2))
    main = _main_model(config)
    mtp = _mtp_layer(main, config)
    shards = _divide(main, MAIN_SHARDS) + _divide(mtp, MTP_SHARDS)
    weight_map: dict[str, str] = {}
    for number, header in enumerate(shards, start=1):
        file = f"model-{number:05d}-of-{SHARDS:06d}.safetensors"  # six digits, as published
        write_shard(folder / file, header)
        weight_map |= dict.fromkeys(header, file)
    index = {"metadata": {}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2))
    return folder


def _main_model(config: DeepseekV3Config) -> dict[str, Shape]:
    """Name and shape of each weight, with the experts apart as they are on disk."""
    with torch.device("meta"):
        model = DeepseekV3ForCausalLM(config)
    weights: dict[str, Shape] = {}
    for name, parameter in model.state_dict().items():
        if ".experts." not in name:
            weights[name] = tuple(parameter.shape)
            continue
        module, fused = name.rsplit(".", 1)
        experts, rows, columns = parameter.shape
        parts = ("gate_proj", "up_proj") if fused == "gate_up_proj" else (fused,)
        for expert in range(experts):
            for part in parts:
                weights[f"{module}.{expert}.{part}.weight"] = (rows // len(parts), columns)
    return weights


def _mtp_layer(main: Mapping[str, Shape], config: DeepseekV3Config) -> dict[str, Shape]:
    """The layer after the last: one like it, and copies of embedding and head."""
    last = f"model.layers.{config.num_hidden_layers - 1}."
    mtp = f"model.layers.{config.num_hidden_layers}."
    hidden, vocabulary = config.hidden_size, config.vocab_size
    weights = {
        mtp + name.removeprefix(last): shape
        for name, shape in main.items()
        if name.startswith(last)
    }
    return weights | {
        mtp + "embed_tokens.weight": (vocabulary, hidden),
        mtp + "enorm.weight": (hidden,),
        mtp + "hnorm.weight": (hidden,),
        mtp + "eh_proj.weight": (hidden, 2 * hidden),
        mtp + "shared_head.norm.weight": (hidden,),
        mtp + "shared_head.head.weight": (vocabulary, hidden),
    }


def _stored(name: str, shape: Shape) -> Iterator[tuple[str, str, Shape]]:
    """Name, dtype and shape of what is on disk for one weight."""
    if name.endswith("e_score_correction_bias"):
        yield name, "F32", shape
    elif "_proj" in name and "eh_proj" not in name:
        yield name, "F8_E4M3", shape
        yield name + "_scale_inv", "F32", tuple(-(-size // BLOCK) for size in shape)
    else:
        yield name, "BF16", shape


def _divide(weights: Mapping[str, Shape], count: int) -> list[Header]:
    """Headers of ``count`` shards of about the same size, the weights in their order."""
    total = sum(map(math.prod, weights.values()))
    shards: list[list[tuple[str, str, Shape]]] = [[] for _ in range(count)]
    before = 0
    for name, shape in weights.items():
        shards[count * before // total] += _stored(name, shape)
        before += math.prod(shape)
    return [make_header(shard) for shard in shards]


def make_header(tensors: list[tuple[str, str, Shape]]) -> Header:
    order = list(_BYTES)
    header: Header = {}
    end = 0
    for name, dtype, shape in sorted(tensors, key=lambda t: (order.index(t[1]), t[0])):
        start, end = end, end + math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [start, end]}
    return header


def write_shard(file: Path, header: Header) -> None:
    """A header and a hole of the size of the data."""
    text = json.dumps({"__metadata__": {"format": "pt"}, **header}, separators=(",", ":"))
    raw = text.encode() + b" " * (-len(text) % 8)
    data = max(entry["data_offsets"][1] for entry in header.values())
    with file.open("wb") as stream:
        stream.write(len(raw).to_bytes(8, "little") + raw)
        stream.truncate(8 + len(raw) + data)
