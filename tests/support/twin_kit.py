# SPDX-License-Identifier: Apache-2.0
"""Twin checkpoints for the engine tests.

Twins hold the same weights twice: as fp8 with scales, and dequantized by testkit's own numpy code
without any quantization settings. Stock vLLM serving the dense twin is what our decoding is
compared with, bit for bit.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packed_kit
import torch
from safetensors.torch import load_file
from testkit import dequantize, quantize, write_checkpoint

VOCABULARY = 320
# All chosen for every token: each weight counts, and rounding cannot flip a choice, which moves
# log-probabilities by 1 and more (transformers in bf16 then disagrees with itself in float32).
EXPERTS = 4
SMALL = {
    "vocab_size": VOCABULARY, "max_position_embeddings": 128, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 0, "tie_word_embeddings": False,
}  # fmt: skip

FP8_METHODS: dict[str, dict[str, Any]] = {
    "block": {
        "quant_method": "fp8",
        "fmt": "e4m3",
        "activation_scheme": "dynamic",
        "weight_block_size": [128, 128],
    },
    "channel": {
        "quant_method": "compressed-tensors",
        "format": "float-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 8, "type": "float", "strategy": "channel"},
                "input_activations": {
                    "num_bits": 8, "type": "float", "strategy": "token", "dynamic": True,
                },
            }
        },
        "ignore": ["lm_head"],
    },
    "tensor": {"quant_method": "fp8", "activation_scheme": "dynamic"},
    "hybrid": {
        "quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128],
        "routed_experts_quant_method": "mxfp4",
    },
    "nvfp4": {"quant_method": "modelopt", "quant_algo": "NVFP4"},
    "int4": {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {
            "group_0": {
                "targets": ["Linear"],
                "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 32,
                            "symmetric": True},
            }
        },
        "ignore": ["lm_head"],
    },
    "gpt-oss": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.embed_tokens"]},
}  # fmt: skip
_SCALE_SUFFIX = {"block": "_scale_inv", "channel": "_scale", "tensor": "_scale_inv"}
# Scheme -> which weights it packs, and how; the others are block fp8, or dense for gpt-oss.
_PACKED: dict[str, tuple[str, Callable[[str, torch.Tensor], tuple[Any, torch.Tensor]]]] = {
    "hybrid": (r"\.experts\.", packed_kit.ling_mxfp4),
    "nvfp4": (".", packed_kit.modelopt_nvfp4),
    "int4": (".", packed_kit.packed_int4),
    "gpt-oss": (r"\.experts\.", packed_kit.gpt_oss),
}
_LINEAR = re.compile(r"(proj|kv_a_proj_with_mqa)(\.weight)?$")


@dataclass(frozen=True)
class Twins:
    """Two checkpoints of the same weights. ``weights``: name -> shape of what is fp8 in one."""

    fp8: Path
    dense: Path
    weights: Mapping[str, tuple[int, ...]]

    def elements(self, ranks: int, whole: Callable[[str], bool]) -> int:
        """Elements that one of ``ranks`` must decode; ``whole`` names what no rank divides."""
        total = 0
        for name, shape in self.weights.items():
            numel = int(torch.Size(shape).numel())
            total += numel if whole(name) else numel // ranks
        return total


def deepseek_v2(**changed: Any) -> Any:
    """A small config with MLA of the sizes that vLLM's CPU kernels take, and experts."""
    import transformers

    hf: Any = transformers
    return hf.DeepseekV2Config(
        **{**SMALL, **changed}, hidden_size=288, intermediate_size=416, num_hidden_layers=2,
        moe_intermediate_size=192, num_attention_heads=4, num_key_value_heads=4, q_lora_rank=160,
        kv_lora_rank=512, qk_rope_head_dim=64, qk_nope_head_dim=96, v_head_dim=64,
        n_routed_experts=EXPERTS, n_shared_experts=1, num_experts_per_tok=EXPERTS,
        first_k_dense_replace=1, n_group=1, topk_group=1,
    )  # fmt: skip


def random_weights(config: Any, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Tensors as transformers stores a model of this config, and its config.json.

    Weights vary by a factor of four from block to block, so that a scale of the wrong block
    cannot pass for the right one.
    """
    import transformers

    hf: Any = transformers
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.save_pretrained(folder)
    tensors: dict[str, torch.Tensor] = {}
    for name, stored in sorted(load_file(folder / "model.safetensors").items()):
        if stored.dim() == 2:
            rows, columns = stored.shape
            contrast = 2 ** torch.empty(-(-rows // 128), -(-columns // 128)).uniform_(-1, 1)
            spread = contrast.repeat_interleave(128, 0).repeat_interleave(128, 1)
            tensors[name] = torch.randn(rows, columns) * spread[:rows, :columns] * columns**-0.5
        elif stored.dim() == 3:  # fused experts, [E, in, out] in gpt-oss
            tensors[name] = torch.randn(stored.shape) * stored.shape[1] ** -0.5
        else:
            tensors[name] = stored
    settings = json.loads((folder / "config.json").read_text())
    return tensors, {**settings, "dtype": "bfloat16", "torch_dtype": "bfloat16"}


def fuse_experts(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Stack each layer's experts to ``gate_up_proj [E, 2I, K]`` and ``down_proj [E, K, I]``."""
    fused = {name: tensor for name, tensor in tensors.items() if ".experts." not in name}
    layers = sorted({name.partition(".experts.")[0] for name in tensors.keys() - fused.keys()})
    for layer in layers:
        experts = len({n for n in tensors if re.match(rf"{re.escape(layer)}\.experts\.\d+\.up", n)})
        gates, ups, downs = (
            [tensors[f"{layer}.experts.{e}.{kind}_proj.weight"] for e in range(experts)]
            for kind in ("gate", "up", "down")
        )
        both = [torch.cat(pair) for pair in zip(gates, ups, strict=True)]
        fused[f"{layer}.experts.gate_up_proj"] = torch.stack(both)
        fused[f"{layer}.experts.down_proj"] = torch.stack(downs)
    return fused


def write_twins(
    folder: Path, tensors: Mapping[str, torch.Tensor], config: Mapping[str, Any], scheme: str
) -> Twins:
    """Write both checkpoints. ``scheme``: a key of FP8_METHODS.

    Two shards; every other scale lies in the shard that its weight is not in.
    """
    fp8: dict[str, torch.Tensor] = {}
    dense: dict[str, torch.Tensor] = {}
    shards: tuple[list[str], list[str]] = ([], [])
    weights: dict[str, tuple[int, ...]] = {}
    for number, (name, tensor) in enumerate(tensors.items()):
        if not _LINEAR.search(name):
            shards[number % 2].append(name)
            fp8[name] = dense[name] = tensor.to(torch.bfloat16)
            continue
        pattern, pack = _PACKED.get(scheme, ("never", packed_kit.ling_mxfp4))
        if re.search(pattern, name):
            stored, dense[name] = pack(name, tensor)
        elif scheme == "gpt-oss":
            fp8[name] = dense[name] = tensor.to(torch.bfloat16)
            shards[number % 2].append(name)
            continue
        else:
            layout = "block" if scheme == "hybrid" else scheme
            scale_name = name + _SCALE_SUFFIX[layout]
            codes, scale, dense[name] = _fp8(tensor, layout)
            stored = {name: codes, scale_name: scale}
        weights[name] = tuple(tensor.shape)
        fp8 |= stored
        for place, stored_name in enumerate(stored):
            # The codes first; then partners, by turns in the other shard.
            shards[(number + bool(place) * len(weights)) % 2].append(stored_name)
    write_checkpoint(
        folder / "fp8", fp8, {**config, "quantization_config": FP8_METHODS[scheme]}, shards
    )
    write_checkpoint(folder / "dense", dense, config)
    return Twins(folder / "fp8", folder / "dense", weights)


def _fp8(weight: torch.Tensor, scheme: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes, scale as stored, and the same weight dequantized."""
    if weight.dim() == 3:
        experts = [_fp8(expert, scheme) for expert in weight]
        # Stacked as bytes: torch lacks fp8 in some of its functions.
        stacked = torch.stack([e[0].view(torch.uint8) for e in experts])
        return (
            stacked.view(torch.float8_e4m3fn),
            torch.stack([e[1] for e in experts]),
            torch.stack([e[2] for e in experts]),
        )
    rows, columns = weight.shape
    block = {"block": (128, 128), "channel": (1, columns), "tensor": (rows, columns)}[scheme]
    codes, scale = quantize(weight, block)
    dense = dequantize(codes, scale, block, torch.bfloat16)
    stored = scale.reshape(()) if scheme == "tensor" else scale
    return codes.view(torch.float8_e4m3fn), stored, dense
