# SPDX-License-Identifier: Apache-2.0
"""Tiny checkpoints of architectures that vLLM dropped, and what each computes.

Names and config keys are those of the published checkpoints. ``logits`` is a float32 forward pass
written from the architectures' own descriptions (papers and the modeling files beside the
published weights), sharing nothing with vLLM, transformers or the recipes.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import layer_norm, linear, normalize, silu

HIDDEN, INTER, LAYERS, HEADS, VOCAB, LENGTH = 128, 256, 2, 4, 512, 256
D = HIDDEN // HEADS
Tensors = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class OldModel:
    """A checkpoint of random weights. ``logits``: tokens -> float32 ``[T, VOCAB]``."""

    config: dict[str, Any]
    tensors: dict[str, torch.Tensor]
    logits: Callable[[list[int]], torch.Tensor]


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for name, shape in shapes.items():
        noise = torch.randn(shape, generator=generator)
        # Large enough that attention and its positions matter, norms away from one.
        made[name] = 1 + 0.3 * noise if len(shape) == 1 else noise * 1.5 * shape[-1] ** -0.5
        if name.endswith("bias"):
            made[name] = 0.5 * noise
    return made


def _rms(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


def _rope(x: torch.Tensor, base: float, interleaved: bool) -> torch.Tensor:
    """``x`` ``[T, H, D]``: turned by position times base**(-2 i / D), as complex numbers."""
    T, H, size = x.shape
    angle = torch.arange(T)[:, None] * base ** (-torch.arange(0, size, 2) / size)
    turn = torch.polar(torch.ones_like(angle), angle)[:, None]
    if interleaved:
        pairs = torch.view_as_complex(x.reshape(T, H, size // 2, 2))
        return torch.view_as_real(pairs * turn).reshape(T, H, size)
    halves = torch.complex(x[..., : size // 2], x[..., size // 2 :]) * turn
    return torch.cat((halves.real, halves.imag), -1)


def _alibi(T: int) -> torch.Tensor:
    """``[H, T, T]``: minus slope times distance; slopes 2**(-8 h / H) for a power of two H."""
    slopes = torch.tensor([2.0 ** (-8 * (h + 1) / HEADS) for h in range(HEADS)])
    distance = torch.arange(T)[:, None] - torch.arange(T)[None]
    return -slopes[:, None, None] * distance


def _attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, bias: torch.Tensor | None
) -> torch.Tensor:
    """Causal attention: ``[T, H * D]`` from ``[T, H, D]``."""
    T = q.shape[0]
    scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(q.shape[-1])
    scores = scores if bias is None else scores + bias
    scores = scores.masked_fill(torch.ones(T, T, dtype=torch.bool).triu(1), -math.inf)
    return torch.einsum("hts,shd->thd", scores.softmax(-1), v).flatten(1)


@dataclass(frozen=True)
class Names:
    """Where a Llama-shaped checkpoint keeps what; ``{n}`` is the layer."""

    embedding: str
    norm: str
    head: str
    attention_norm: str
    mlp_norm: str
    qkv: tuple[str, ...]
    out: str
    gate: str
    up: str
    down: str


LLAMA = Names(
    "model.embed_tokens", "model.norm", "lm_head", "model.layers.{n}.input_layernorm",
    "model.layers.{n}.post_attention_layernorm",
    tuple(f"model.layers.{{n}}.self_attn.{p}_proj" for p in "qkv"),
    "model.layers.{n}.self_attn.o_proj", "model.layers.{n}.mlp.gate_proj",
    "model.layers.{n}.mlp.up_proj", "model.layers.{n}.mlp.down_proj",
)  # fmt: skip
W_PACK = Names(
    LLAMA.embedding, LLAMA.norm, LLAMA.head, LLAMA.attention_norm, LLAMA.mlp_norm,
    ("model.layers.{n}.self_attn.W_pack",), LLAMA.out, LLAMA.gate, LLAMA.up, LLAMA.down,
)  # fmt: skip
QWEN = Names(
    "transformer.wte", "transformer.ln_f", "lm_head", "transformer.h.{n}.ln_1",
    "transformer.h.{n}.ln_2", ("transformer.h.{n}.attn.c_attn",), "transformer.h.{n}.attn.c_proj",
    # The activation acts on what modeling_qwen.py calls w2.
    "transformer.h.{n}.mlp.w2", "transformer.h.{n}.mlp.w1", "transformer.h.{n}.mlp.c_proj",
)  # fmt: skip
FAIRSEQ2 = Names(
    "decoder_frontend.embed", "decoder.layer_norm", "final_proj",
    "decoder.layers.{n}.self_attn_layer_norm", "decoder.layers.{n}.ffn_layer_norm",
    tuple(f"decoder.layers.{{n}}.self_attn.{p}_proj" for p in "qkv"),
    "decoder.layers.{n}.self_attn.output_proj", "decoder.layers.{n}.ffn.gate_proj",
    "decoder.layers.{n}.ffn.inner_proj", "decoder.layers.{n}.ffn.output_proj",
)  # fmt: skip
STABLELM = LLAMA


@dataclass(frozen=True)
class Kind:
    """What distinguishes a Llama-shaped architecture. ``bias``: of Q, K, V; of the output too."""

    names: Names
    config: dict[str, Any]
    positions: str = "halves"  # or "interleaved", "alibi"
    rotated: float = 1.0
    qkv_bias: bool = False
    out_bias: bool = False
    norm_head: bool = False
    layer_norm: bool = False
    vocabulary: int = VOCAB
    eps: float = 1e-6
    base: float = 10000.0


def _build(kind: Kind, seed: int) -> OldModel:
    names, V = kind.names, kind.vocabulary
    shapes: dict[str, tuple[int, ...]] = {
        f"{names.embedding}.weight": (V, HIDDEN), f"{names.head}.weight": (V, HIDDEN),
        f"{names.norm}.weight": (HIDDEN,),
    }  # fmt: skip
    norms = [names.norm]
    rows = 3 * HIDDEN // len(names.qkv)
    for n in range(LAYERS):
        norms += [names.attention_norm.format(n=n), names.mlp_norm.format(n=n)]
        for qkv in names.qkv:
            shapes[qkv.format(n=n) + ".weight"] = (rows, HIDDEN)
            if kind.qkv_bias:
                shapes[qkv.format(n=n) + ".bias"] = (rows,)
        shapes[names.out.format(n=n) + ".weight"] = (HIDDEN, HIDDEN)
        if kind.out_bias:
            shapes[names.out.format(n=n) + ".bias"] = (HIDDEN,)
        for name, size in ((names.gate, (INTER, HIDDEN)), (names.up, (INTER, HIDDEN)),
                           (names.down, (HIDDEN, INTER))):  # fmt: skip
            shapes[name.format(n=n) + ".weight"] = size
    for norm in norms:
        shapes[f"{norm}.weight"] = (HIDDEN,)
        if kind.layer_norm:
            shapes[f"{norm}.bias"] = (HIDDEN,)
    tensors = _random(shapes, seed)
    return OldModel(kind.config, tensors, lambda tokens: _logits(kind, tensors, tokens))


def _logits(kind: Kind, tensors: Tensors, tokens: list[int]) -> torch.Tensor:
    names = kind.names

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        weight = tensors[f"{name}.weight"]
        if kind.layer_norm:
            return layer_norm(x, (HIDDEN,), weight, tensors[f"{name}.bias"], kind.eps)
        return _rms(x, weight, kind.eps)

    def project(x: torch.Tensor, name: str) -> torch.Tensor:
        return linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    def place(x: torch.Tensor) -> torch.Tensor:
        if kind.positions == "alibi":
            return x
        size = int(D * kind.rotated)
        turned = _rope(x[..., :size], kind.base, kind.positions == "interleaved")
        return torch.cat((turned, x[..., size:]), -1)

    x = tensors[f"{names.embedding}.weight"][tokens]
    T = len(tokens)
    bias = _alibi(T) if kind.positions == "alibi" else None
    for n in range(LAYERS):
        y = norm(x, names.attention_norm.format(n=n))
        fused = torch.cat([project(y, qkv.format(n=n)) for qkv in names.qkv], -1)
        q, k, v = (part.reshape(T, HEADS, D) for part in fused.chunk(3, -1))
        x = x + project(_attend(place(q), place(k), v, bias), names.out.format(n=n))
        y = norm(x, names.mlp_norm.format(n=n))
        gated = silu(project(y, names.gate.format(n=n))) * project(y, names.up.format(n=n))
        x = x + project(gated, names.down.format(n=n))
    head = tensors[f"{names.head}.weight"]
    return norm(x, names.norm) @ (normalize(head) if kind.norm_head else head).T


def _config(architecture: str, model_type: str, **more: object) -> dict[str, Any]:
    return {
        "architectures": [architecture], "model_type": model_type, "hidden_size": HIDDEN,
        "intermediate_size": INTER, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
        "vocab_size": VOCAB, "hidden_act": "silu", "torch_dtype": "bfloat16",
        "tie_word_embeddings": False, "use_cache": True, "bos_token_id": 1, "eos_token_id": 2,
        "auto_map": {"AutoConfig": f"configuration_{model_type}.Config"},
    } | more  # fmt: skip


_RMS: dict[str, Any] = {"rms_norm_eps": 1e-6, "max_position_embeddings": LENGTH}
KINDS = {
    "aquila": Kind(LLAMA, _config("AquilaModel", "aquila", **_RMS)),
    "aquila2": Kind(LLAMA, _config("AquilaForCausalLM", "aquila", **_RMS, rope_theta=5000.0),
                    base=5000.0),
    "xverse": Kind(LLAMA, _config("XverseForCausalLM", "xverse", **_RMS)),
    "internlm": Kind(LLAMA, _config("InternLMForCausalLM", "internlm", **_RMS, bias=True),
                     qkv_bias=True, out_bias=True),
    "internlm-without-bias": Kind(
        LLAMA, _config("InternLMForCausalLM", "internlm", **_RMS, bias=False)
    ),
    "baichuan-7b": Kind(W_PACK, _config("BaiChuanForCausalLM", "baichuan", **_RMS)),
    "baichuan-13b": Kind(
        W_PACK,
        _config("BaichuanForCausalLM", "baichuan", rms_norm_eps=1e-6, model_max_length=LENGTH),
        positions="alibi",
    ),
    "baichuan2-13b": Kind(
        W_PACK,
        _config("BaichuanForCausalLM", "baichuan", rms_norm_eps=1e-6, model_max_length=LENGTH,
                vocab_size=125696),
        positions="alibi", norm_head=True, vocabulary=125696,
    ),
    "qwen": Kind(
        QWEN,
        _config("QWenLMHeadModel", "qwen", intermediate_size=2 * INTER, layer_norm_epsilon=1e-6,
                rotary_emb_base=20000, seq_length=LENGTH, kv_channels=D, no_bias=True,
                use_logn_attn=True, use_dynamic_ntk=True, max_position_embeddings=LENGTH),
        qkv_bias=True, base=20000.0,
    ),
    "fairseq2-llama": Kind(
        FAIRSEQ2, _config("Fairseq2LlamaForCausalLM", "llama", **_RMS), positions="interleaved"
    ),
    "stablelm-epoch": Kind(
        STABLELM,
        _config("StableLMEpochForCausalLM", "stablelm_epoch", norm_eps=1e-5, rope_pct=0.25,
                max_position_embeddings=LENGTH, rope_theta=10000),
        rotated=0.25, layer_norm=True, eps=1e-5,
    ),
}  # fmt: skip


def old_model(name: str) -> OldModel:
    """The model of this name, always the same."""
    return _build(KINDS[name], seed=len(name))
