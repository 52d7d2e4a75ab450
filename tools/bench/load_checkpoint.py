# SPDX-License-Identifier: Apache-2.0
"""Write the synthetic checkpoints of the load benchmark, and load one in a fresh process.

Run as a script it is that fresh process: ``load_checkpoint.py FOLDER`` prints seconds and bytes
as JSON.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# A Qwen3 layer of this shape has 193 M parameters in its linear weights, as in an 8B model.
_HIDDEN, _INTERMEDIATE, _HEADS, _KV_HEADS, _HEAD_SIZE = 4096, 12288, 32, 8, 128
_BLOCK = 128
_CONFIG = {
    "architectures": ["Qwen3ForCausalLM"], "model_type": "qwen3", "hidden_act": "silu",
    "hidden_size": _HIDDEN, "intermediate_size": _INTERMEDIATE, "num_attention_heads": _HEADS,
    "num_key_value_heads": _KV_HEADS, "head_dim": _HEAD_SIZE, "vocab_size": 1024,
    "max_position_embeddings": 512, "rms_norm_eps": 1e-6, "rope_theta": 10000,
    "tie_word_embeddings": True, "attention_bias": False, "torch_dtype": "bfloat16",
}  # fmt: skip
_FP8 = {"quant_method": "fp8", "weight_block_size": [_BLOCK, _BLOCK],
        "activation_scheme": "dynamic"}  # fmt: skip


@dataclass(frozen=True)
class Load:
    """One load: wall seconds, and peak anonymous memory above the parameters, in bytes."""

    seconds: float
    extra_bytes: int


def _linear_shapes() -> dict[str, tuple[int, int]]:
    query, kv = _HEADS * _HEAD_SIZE, _KV_HEADS * _HEAD_SIZE
    return {
        "self_attn.q_proj": (query, _HIDDEN), "self_attn.k_proj": (kv, _HIDDEN),
        "self_attn.v_proj": (kv, _HIDDEN), "self_attn.o_proj": (_HIDDEN, query),
        "mlp.gate_proj": (_INTERMEDIATE, _HIDDEN), "mlp.up_proj": (_INTERMEDIATE, _HIDDEN),
        "mlp.down_proj": (_HIDDEN, _INTERMEDIATE),
    }  # fmt: skip


def write(fp8: Path, bf16: Path, gigabytes: float) -> int:
    """Write both checkpoints, one layer per shard; returns the largest tensor's bytes in bf16."""
    shapes = _linear_shapes()
    layers = max(1, round(gigabytes * 1e9 / sum(n * k for n, k in shapes.values())))
    for folder, extra in ((fp8, {"quantization_config": _FP8}), (bf16, {})):
        folder.mkdir(parents=True)
        config = {**_CONFIG, "num_hidden_layers": layers, **extra}
        (folder / "config.json").write_text(json.dumps(config))
    for number, (codes, dense) in enumerate(_shards(layers), start=1):
        _save(codes, fp8, number, layers + 1)
        _save(dense, bf16, number, layers + 1)
    return max(n * k for n, k in shapes.values()) * 2


def _shards(layers: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The same weights as fp8 codes with scales and as bf16, shard by shard."""
    import torch

    from vllm_ascend_bringup.kernels.fp8_dequant import fp8_dequant

    torch.manual_seed(0)
    ones = torch.ones(_HIDDEN, dtype=torch.bfloat16)
    rest = {
        "model.embed_tokens.weight": torch.randn(1024, _HIDDEN).bfloat16(),
        "model.norm.weight": ones,
    }
    yield rest, rest
    for layer in range(layers):
        prefix = f"model.layers.{layer}."
        norms = {
            prefix + "input_layernorm.weight": ones,
            prefix + "post_attention_layernorm.weight": ones.clone(),
            prefix + "self_attn.q_norm.weight": ones[:_HEAD_SIZE].clone(),
            prefix + "self_attn.k_norm.weight": ones[:_HEAD_SIZE].clone(),
        }
        codes, dense = dict(norms), dict(norms)
        for name, (n, k) in _linear_shapes().items():
            # Every finite code: 0x7f and 0xff are NaN.
            code = torch.randint(0, 127, (n, k), dtype=torch.uint8)
            code |= torch.randint(0, 2, (n, k), dtype=torch.uint8) << 7
            scale = (torch.rand(-(-n // _BLOCK), -(-k // _BLOCK)) + 0.5) * 1e-4
            out = torch.empty(n, k, dtype=torch.bfloat16)
            fp8_dequant(code, scale, out, block=(_BLOCK, _BLOCK))
            codes[f"{prefix}{name}.weight"] = code.view(torch.float8_e4m3fn)
            codes[f"{prefix}{name}.weight_scale_inv"] = scale
            dense[f"{prefix}{name}.weight"] = out
        yield codes, dense


def _save(tensors: dict[str, Any], folder: Path, number: int, shards: int) -> None:
    from safetensors.torch import save_file

    file = f"model-{number:05d}-of-{shards:05d}.safetensors"
    save_file(tensors, folder / file, metadata={"format": "pt"})


def load(folder: Path, plugin: bool) -> Load:
    """Load ``folder`` with vLLM in a fresh process, with the plugin or without any."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_LOGGING_LEVEL": "WARNING"}
    environment["VLLM_PLUGINS"] = "ascend_bringup" if plugin else ""
    done = subprocess.run(
        [sys.executable, __file__, str(folder)], env=environment, check=True,
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return Load(**json.loads(done.stdout.splitlines()[-1]))


class _PeakMemory(threading.Thread):
    """Samples this process's anonymous memory: file pages of a memory-mapped shard are not ours."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.005):
            self.peak = max(self.peak, anonymous_bytes())


def anonymous_bytes() -> int:
    """Anonymous resident memory of this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return 0


def _load_here(folder: str) -> Load:
    import torch
    from vllm.config import set_current_vllm_config
    from vllm.distributed import ensure_model_parallel_initialized, init_distributed_environment
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader import get_model_loader
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config = EngineArgs(
        model=folder, enforce_eager=True, skip_tokenizer_init=True, max_model_len=512
    ).create_engine_config()
    with set_current_vllm_config(config):
        init_distributed_environment(1, 0, "tcp://127.0.0.1:0", 0, backend="gloo")
        ensure_model_parallel_initialized(1, 1)
        with set_default_torch_dtype(config.model_config.dtype):
            model = initialize_model(vllm_config=config, model_config=config.model_config)
        parameters = sum(p.nbytes for p in model.parameters())
        before = anonymous_bytes()
        memory = _PeakMemory()
        memory.start()
        started = time.perf_counter()
        with torch.no_grad():
            get_model_loader(config.load_config).load_weights(model, config.model_config)
        seconds = time.perf_counter() - started
        memory.done.set()
        memory.join()
    # The parameters' own pages become resident while they are filled.
    return Load(seconds, max(0, memory.peak - before - parameters))


if __name__ == "__main__":
    print(json.dumps(vars(_load_here(sys.argv[1]))))
