# SPDX-License-Identifier: Apache-2.0
"""Norms over whole Q and K where ranks share KV heads: real vLLM against transformers."""

from pathlib import Path
from typing import Any

import pytest
import torch
from engine_kit import EngineError, prompts, run_engine

pytestmark = pytest.mark.engine
VOCABULARY, TOKENS = 512, 8
PROMPTS = prompts(VOCABULARY, 10)


def olmoe(folder: Path, kv_heads: int) -> Any:
    """A tiny OLMoE with norms that matter, written to ``folder``; returns transformers' model."""
    import transformers

    hf: Any = transformers
    torch.manual_seed(0)
    config = hf.OlmoeConfig(
        hidden_size=256, intermediate_size=128, num_hidden_layers=2, num_attention_heads=8,
        num_key_value_heads=kv_heads, vocab_size=VOCABULARY, max_position_embeddings=256,
        num_experts=4, num_experts_per_tok=4,
    )  # fmt: skip
    model = hf.OlmoeForCausalLM(config).float().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            size = 0.3 if "norm" in name else 0.05
            parameter += size * torch.randn_like(parameter)
    model.save_pretrained(folder)
    return model


def greedy(model: Any) -> list[list[int]]:
    continued = []
    for prompt in PROMPTS:
        with torch.no_grad():
            ids = model.generate(
                torch.tensor([prompt]), max_new_tokens=TOKENS, min_new_tokens=TOKENS,
                do_sample=False,
            )  # fmt: skip
        continued.append(ids[0, len(prompt) :].tolist())
    return continued


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[int, tuple[Path, list[list[int]]]]:
    """KV heads -> the checkpoint, and transformers' tokens."""
    made = {}
    for kv_heads in (1, 2):
        folder = tmp_path_factory.mktemp(f"olmoe-{kv_heads}")
        made[kv_heads] = (folder, greedy(olmoe(folder, kv_heads)))
    return made


@pytest.mark.parametrize(
    ("kv_heads", "tp"), [(1, 1), (1, 2), (2, 2)], ids=["alone", "shared", "divided"]
)
def test_olmoe_answers_as_transformers_does(
    models: dict[int, tuple[Path, list[list[int]]]], kv_heads: int, tp: int
) -> None:
    folder, expected = models[kv_heads]
    assert run_engine(folder, PROMPTS, tp=tp, tokens=TOKENS, dtype="float32").tokens == expected


def test_olmoe_fails_without_the_patch(
    models: dict[int, tuple[Path, list[list[int]]]],
) -> None:
    """K of each rank gathered twice, and a weight of half that width."""
    off = {"VLLM_ASCEND_BRINGUP_PATCHES": "off"}
    with pytest.raises(EngineError, match=r"size of tensor a \(64\) must match .* b \(32\)"):
        run_engine(models[1][0], PROMPTS, tp=2, tokens=2, dtype="float32", environment=off)
