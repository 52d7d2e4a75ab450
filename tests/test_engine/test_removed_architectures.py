# SPDX-License-Identifier: Apache-2.0
"""Architectures that vLLM dropped are served again, and compute what they are meant to.

In float32, against a forward pass of the test's own, or transformers where it has the class.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from engine_kit import Generation, prompts, run_engine
from old_models import KINDS, VOCAB, old_model
from testkit import write_checkpoint

pytestmark = pytest.mark.engine

# Largest difference of a log-probability between two float32 computations of these models in
# another order of summation: seen 2e-5; positions or weights in a wrong place make more than 0.1.
TOLERANCE = 5e-4
_RW = {
    "rw-7b": {"model_type": "RefinedWebModel", "multi_query": True, "parallel_attn": True},
    "rw-40b": {"model_type": "RefinedWeb", "n_head_kv": 2, "parallel_attn": True},
}
_TWO_RANKS = ("baichuan-13b", "fairseq2-llama")
Logits = Callable[[list[int]], torch.Tensor]


def write_refined_web(name: str, folder: Path) -> Logits:
    """A Falcon under its first name, written and computed by transformers."""
    import transformers

    hf: Any = transformers
    torch.manual_seed(0)
    old = _RW[name]
    config = hf.FalconConfig(
        vocab_size=VOCAB, hidden_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_kv_heads=old.get("n_head_kv"), multi_query=old.get("multi_query", False),
        new_decoder_architecture=name == "rw-40b", parallel_attn=True, bias=False, alibi=False,
    )  # fmt: skip
    model = hf.FalconForCausalLM(config).float().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    published = {
        "architectures": ["RWForCausalLM"], "vocab_size": VOCAB, "hidden_size": 128, "n_layer": 2,
        "n_head": 4, "bias": False, "alibi": False, "layer_norm_epsilon": 1e-5,
        "torch_dtype": "bfloat16", "auto_map": {"AutoConfig": "configuration_RW.RWConfig"}, **old,
    }  # fmt: skip
    tensors = {key: t.clone() for key, t in model.state_dict().items() if key != "lm_head.weight"}
    write_checkpoint(folder, tensors, published)

    def logits(tokens: list[int]) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = model(torch.tensor([tokens])).logits[0]
        return found

    return logits


@pytest.fixture(scope="module")
def references(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Logits]]:
    made: dict[str, tuple[Path, Logits]] = {}
    for name in KINDS:
        model, folder = old_model(name), tmp_path_factory.mktemp(name)
        write_checkpoint(folder, model.tensors, model.config)
        made[name] = (folder, model.logits)
    for name in _RW:
        folder = tmp_path_factory.mktemp(name)
        made[name] = (folder, write_refined_web(name, folder))
    return made


@pytest.fixture(scope="module")
def answers(references: dict[str, tuple[Path, Logits]]) -> dict[str, Generation]:
    return {
        name: run_engine(folder, prompts(VOCAB, 4), tokens=8, dtype="float32")
        for name, (folder, _) in references.items()
    }


@pytest.fixture(scope="module")
def answers_of_two_ranks(references: dict[str, tuple[Path, Logits]]) -> dict[str, Generation]:
    return {
        name: run_engine(references[name][0], prompts(VOCAB, 4), tp=2, tokens=8, dtype="float32")
        for name in _TWO_RANKS
    }


def assert_computes(found: Generation, logits: Logits) -> None:
    """Every log-probability that vLLM reports, over prompt and continuation."""
    for prompt, tokens, steps in zip(prompts(VOCAB, 4), found.tokens, found.logprobs, strict=True):
        expected = logits([*prompt, *tokens]).log_softmax(-1)[len(prompt) - 1 :]
        for step, row in zip(steps, expected, strict=False):
            for token, logprob in step.items():
                assert logprob == pytest.approx(float(row[int(token)]), abs=TOLERANCE)
            assert max(step.values()) == pytest.approx(float(row.max()), abs=TOLERANCE)


@pytest.mark.parametrize("name", [*KINDS, *_RW])
def test_computes_what_the_architecture_means(
    name: str, references: dict[str, tuple[Path, Logits]], answers: dict[str, Generation]
) -> None:
    assert_computes(answers[name], references[name][1])


@pytest.mark.parametrize("name", _TWO_RANKS)
def test_two_ranks(
    name: str,
    references: dict[str, tuple[Path, Logits]],
    answers_of_two_ranks: dict[str, Generation],
) -> None:
    assert_computes(answers_of_two_ranks[name], references[name][1])
