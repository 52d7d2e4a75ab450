# SPDX-License-Identifier: Apache-2.0
"""Defects to be found: checkpoints that are wrong, and model code that fails at a chosen moment."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from testkit import write_checkpoint

from vllm_ascend_bringup.tools.demo import CHECKPOINT

Tensors = dict[str, torch.Tensor]
WEIGHT = "model.layers.1.self_attn.k_proj.weight"
SCALE = f"{WEIGHT}_scale_inv"

# Found by vLLM in each of its processes, as any plugin.
_PLUGIN = '''
import time

from vllm.forward_context import get_forward_context
from vllm.model_executor.models.qwen3 import Qwen3ForCausalLM


def crash():
    """In the first pass that is no profiling: the others have no KV cache to read."""
    forward = Qwen3ForCausalLM.forward

    def failing(self, *arguments, **named):
        if get_forward_context().attn_metadata is not None:
            raise RuntimeError("planted: the operator takes no such shape")
        return forward(self, *arguments, **named)

    Qwen3ForCausalLM.forward = failing


def hang():
    """While weights are loaded."""
    Qwen3ForCausalLM.load_weights = lambda self, weights: time.sleep(3600)
'''


def _nothing(_: Any) -> None:
    pass


def broken_demo(
    folder: Path,
    tensors: Callable[[Tensors], None] = _nothing,
    config: Callable[[dict[str, Any]], None] = _nothing,
) -> Path:
    """A copy of the demo checkpoint after two edits, in one shard."""
    stored: Tensors = {}
    for shard in CHECKPOINT.glob("*.safetensors"):
        stored |= load_file(shard)
    settings = json.loads((CHECKPOINT / "config.json").read_text())
    tensors(stored)
    config(settings)
    write_checkpoint(folder, stored, settings)
    return _with_tokenizer(folder)


def mixture_of_experts(folder: Path) -> Path:
    """A random one with the demo's tokenizer."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        vocab_size=448, hidden_size=128, moe_intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, num_experts=4,
        num_experts_per_tok=2, max_position_embeddings=512,
    )  # fmt: skip
    Qwen3MoeForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return _with_tokenizer(folder)


def _with_tokenizer(folder: Path) -> Path:
    for file in (
        "tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"
    ):  # fmt: skip
        shutil.copy(CHECKPOINT / file, folder)
    return folder


def drop(*names: str) -> Callable[[Tensors], None]:
    """An edit that removes tensors."""

    def edit(tensors: Tensors) -> None:
        for name in names:
            del tensors[name]

    return edit


def shuffle(tensors: Tensors) -> None:
    """Every layer's attention output projection with its rows in another order."""
    for name, tensor in tensors.items():
        if name.endswith("o_proj.weight"):
            order = torch.randperm(len(tensor), generator=torch.Generator().manual_seed(0))
            tensors[name] = tensor.view(torch.uint8)[order].view(tensor.dtype)


def recipe(folder: Path, body: str) -> dict[str, str]:
    """The environment with a recipe of one's own for the demo's architecture."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "own.toml").write_text(f'architecture = "Qwen3ForCausalLM"\n{body}\n')
    return {"VLLM_ASCEND_BRINGUP_RECIPES": str(folder / "own.toml")}


def plugin(folder: Path, does: str) -> Path:
    """A folder for PYTHONPATH with a vLLM plugin: "crash" or "hang"."""
    metadata = folder / "planted-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / "planted.py").write_text(_PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(
        f"[vllm.general_plugins]\nplanted = planted:{does}\n"
    )
    return folder
