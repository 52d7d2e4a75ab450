# SPDX-License-Identifier: Apache-2.0
"""vLLM's OpenPanguSinkAttention over gloo ranks: its model needs an attention that CPUs lack.

As a program: ``python sink_attention.py ANSWER.json``. The attention itself is computed here, in
float32, each query seeing the sinks and what is before it; everything else is vLLM's own.
"""

import functools
import json
import os
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from vllm_ascend_bringup.tools.engines.child import ChildError, in_children
from vllm_ascend_bringup.tools.engines.engine import set_up

HIDDEN, HEADS, NOPE, ROPE, V, SINKS, T = 64, 4, 16, 16, 24, 4, 7
D = NOPE + ROPE
# KV heads and ranks: each alone, divided, shared.
CASES = ((1, 1), (2, 2), (1, 2), (2, 4))


def attention_class() -> Any:
    """What stands in for vLLM's StaticSinkAttention."""
    import torch

    class SinkAttention(torch.nn.Module):
        def __init__(
            self, num_heads: int, head_size: int, scale: float, *, num_kv_heads: int,
            head_size_v: int, **_: Any,
        ) -> None:  # fmt: skip
            super().__init__()
            self.heads, self.kv_heads, self.scale = num_heads, num_kv_heads, scale
            self.size, self.value_size = head_size, head_size_v

        def update_sink_kv(self, key: torch.Tensor, value: torch.Tensor) -> None:
            self.sink_key, self.sink_value = key, value

        def forward(
            self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, output_shape: torch.Size
        ) -> torch.Tensor:
            tokens, group = len(q), self.heads // self.kv_heads
            q = q.view(tokens, self.heads, self.size)
            k = torch.cat((self.sink_key, k.view(tokens, self.kv_heads, self.size)))
            v = torch.cat((self.sink_value, v.view(tokens, self.kv_heads, self.value_size)))
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            scores = torch.einsum("qhd,khd->hqk", q, k) * self.scale
            seen = torch.ones(tokens, len(k), dtype=torch.bool).tril(SINKS)
            weights = scores.masked_fill(~seen, float("-inf")).softmax(-1)
            return torch.einsum("hqk,khv->qhv", weights, v).reshape(output_shape)

    return SinkAttention


def tensors(kv_heads: int) -> dict[str, Any]:
    """Of one layer as stored, and the layer's input ``x`` ``[T, HIDDEN]``."""
    import torch

    generator = torch.Generator().manual_seed(0)
    shapes = {
        "q": (HEADS * D, HIDDEN), "k": (kv_heads * D, HIDDEN), "v": (kv_heads * V, HIDDEN),
        "o_proj.weight": (HIDDEN, HEADS * V), "k_layernorm.weight": (D,),
        "param_sink_key": (SINKS, kv_heads, D), "param_sink_value": (SINKS, kv_heads, V),
        "x": (T, HIDDEN),
    }  # fmt: skip
    return {n: 0.4 * torch.randn(shape, generator=generator) for n, shape in shapes.items()}


def output(rank: int, ranks: int, folder: str, kv_heads: int, patched: bool, named: bool) -> Any:
    """Of the layer, ``[T, HIDDEN]`` as lists. ``named``: load q, k and v by name, as its model."""
    import torch
    from vllm.config import VllmConfig, set_current_vllm_config
    from vllm.distributed import init_distributed_environment, initialize_model_parallel
    from vllm.model_executor.models import openpangu

    from vllm_ascend_bringup.patches import shared_kv_heads

    os.environ["VLLM_DIST_IDENT"] = str(rank)  # no shared memory
    openpangu.StaticSinkAttention = attention_class()
    layer_class: Any = openpangu.OpenPanguSinkAttention
    if patched:
        layer_class = shared_kv_heads.openpangu(layer_class)
    stored = tensors(kv_heads)
    config = SimpleNamespace(
        hidden_size=HIDDEN, num_attention_heads=HEADS, num_key_value_heads=kv_heads,
        qk_nope_dim=NOPE, qk_rope_dim=ROPE, v_channels=V, param_sink_number=SINKS,
        param_sink_with_value=True, rms_norm_eps=1e-5, torch_dtype=torch.float32,
    )  # fmt: skip
    with set_current_vllm_config(VllmConfig()), torch.inference_mode():
        init_distributed_environment(ranks, rank, f"file://{folder}/meeting", rank, "gloo")
        initialize_model_parallel(ranks)
        layer = layer_class(
            config=config, hidden_size=HIDDEN, num_heads=HEADS, num_kv_heads=kv_heads,
            prefix="layers.0.self_attn",
        )  # fmt: skip
        weight = layer.qkv_proj.weight
        for number, name in enumerate("qkv"):
            weight.weight_loader(weight, stored[name], name if named else number)
        for name, parameter in layer.named_parameters():
            if name in stored:
                default = parameter.data.copy_
                load = getattr(parameter, "weight_loader", lambda _, tensor, to=default: to(tensor))
                load(parameter, stored[name])
        for linear in (layer.qkv_proj, layer.o_proj):
            linear.quant_method.process_weights_after_loading(linear)
        layer.post_weight_load()
        return layer(torch.arange(T), stored["x"]).tolist()


def over_ranks(ranks: int, *arguments: Any, log: Path) -> list[Any]:
    """Every rank's output, or the error as the only one."""
    with tempfile.TemporaryDirectory() as folder:
        calls = [
            functools.partial(output, rank, ranks, folder, *arguments) for rank in range(ranks)
        ]
        try:
            return list(in_children(calls, log=log, timeout=60))
        except ChildError as error:
            return [str(error)]


def main(answer: Path) -> None:
    """Write what vLLM alone and the patched class compute."""
    set_up()
    log = answer.with_suffix(".log")
    found: dict[str, Any] = {"named alone": over_ranks(1, 2, False, True, log=log)}
    for kv_heads, ranks in CASES:
        found |= {
            f"one {kv_heads}": over_ranks(1, kv_heads, False, False, log=log),
            f"alone {kv_heads} {ranks}": over_ranks(ranks, kv_heads, False, False, log=log),
            f"ours {kv_heads} {ranks}": over_ranks(ranks, kv_heads, True, True, log=log),
        }
    answer.write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
