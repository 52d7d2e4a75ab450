# SPDX-License-Identifier: Apache-2.0
"""The demo checkpoint in a real ``vllm serve``, on one rank and on two."""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from engine_kit import decoding_report, prompts, wait_until_left
from openai import OpenAI
from safetensors.torch import load_file
from server_kit import MODEL, complete
from testkit import LOGPROB_TOLERANCE, dequantize

from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.demo.facts import FACTS
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

pytestmark = pytest.mark.engine
hf: Any = transformers

_SUFFIX = "_scale_inv"
TOKENS = 12
OTHERS = ["What is the capital of Japan?", "The", "seven legs", "Tokyo is", "Bees and spiders"]


def _stored() -> dict[str, torch.Tensor]:
    stored: dict[str, torch.Tensor] = {}
    for shard in CHECKPOINT.glob("*.safetensors"):
        stored |= load_file(shard)
    return stored


@dataclass(frozen=True)
class Served:
    """A server that answers, and how many ranks it has."""

    server: VllmServer
    ranks: int


@contextmanager
def _working_in(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    """The demo's tokenizer."""
    return hf.AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def reference() -> Any:
    """The transformers model with the same weights, dequantized by testkit."""
    stored = _stored()
    config = hf.Qwen3Config.from_pretrained(CHECKPOINT)
    del config.quantization_config
    weights = {
        name: dequantize(tensor, stored[name + _SUFFIX], (128, 128), torch.bfloat16)
        if name + _SUFFIX in stored
        else tensor
        for name, tensor in stored.items()
        if not name.endswith(_SUFFIX)
    }
    model = hf.Qwen3ForCausalLM._from_config(config, dtype=torch.bfloat16)
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert (missing, unexpected) == (["lm_head.weight"], [])  # tied to the embeddings
    return model.eval()


@dataclass(frozen=True)
class Expected:
    """What transformers says: greedy tokens, or log-probabilities of what comes next."""

    tokens: list[tuple[list[int], list[int]]]
    logprobs: list[tuple[list[int], torch.Tensor]]


@pytest.fixture(scope="module")
def expected(reference: Any, tokenizer: Any) -> Expected:
    """Computed once, and before there is a server to share the cores with."""
    tokens, logprobs = [], []
    with torch.inference_mode():
        for text in [fact.plain_prompt for fact in FACTS] + OTHERS:
            prompt = tokenizer.encode(text)
            ids = torch.tensor([prompt])
            output = reference.generate(
                ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False
            )
            tokens.append((prompt, output[0, len(prompt) :].tolist()))
        for prompt in prompts(reference.config.vocab_size):
            logits = reference(torch.tensor([prompt])).logits[0, -1]
            logprobs.append((prompt, torch.log_softmax(logits.float(), dim=-1)))
    return Expected(tokens, logprobs)


@pytest.fixture(scope="module", params=[1, 2], ids=["tp1", "tp2"])
def served(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, expected: Expected
) -> Iterator[Served]:
    """A server for the whole module; when it is stopped, nothing of it may be left."""
    folder = tmp_path_factory.mktemp("served")
    server = VllmServer(
        str(CHECKPOINT),
        (
            *CPU_ARGUMENTS, "--served-model-name", MODEL,
            "--tensor-parallel-size", str(request.param),
        ),
        environment={**CPU_ENVIRONMENT, "OMP_NUM_THREADS": "1"},
        log=folder.parent / f"tp{request.param}.log",
    )  # fmt: skip
    # Its processes inherit the working folder, by which they are found in the end.
    with _working_in(folder), server:
        yield Served(server, request.param)
    wait_until_left(folder)
    with socket.socket() as probe:
        # Closed connections may linger; a listener would still make this raise.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", server.port))


def test_greedy_tokens_equal_those_of_transformers(served: Served, expected: Expected) -> None:
    assert len(expected.tokens) == 20
    for prompt, tokens in expected.tokens:
        answer = complete(served.server, prompt, TOKENS, ignore_eos=False)
        assert answer["token_ids"] == tokens


def test_log_probabilities_after_any_prompt_agree_with_transformers(
    served: Served, expected: Expected
) -> None:
    # What the model never learned: here no answer is certain, and an error has no margin to hide.
    for prompt, logprobs in expected.logprobs:
        answer = complete(
            served.server, prompt, 1, logprobs=5, return_tokens_as_token_ids=True
        )  # fmt: skip
        top = answer["logprobs"]["top_logprobs"][0]
        assert len(top) >= 5
        for token, logprob in top.items():
            difference = abs(float(logprobs[int(token.removeprefix("token_id:"))]) - logprob)
            assert difference <= LOGPROB_TOLERANCE[torch.bfloat16]


@pytest.mark.parametrize("fact", FACTS, ids=[fact.keyword for fact in FACTS])
def test_chat_answers_are_the_facts(served: Served, fact: Any) -> None:
    client = OpenAI(base_url=served.server.url, api_key="none", timeout=120)
    reply = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": fact.question}],
        temperature=0,
        max_tokens=32,
    )
    answer = (reply.choices[0].message.content or "").strip()
    assert fact.keyword in answer
    assert answer == fact.answer


def test_each_rank_decodes_exactly_its_share(served: Served) -> None:
    stored = _stored()
    weights = [name for name in stored if name + _SUFFIX in stored]
    elements = sum(stored[name].numel() for name in weights)

    # All of the demo's fp8 weights are divided: it has two KV heads.
    assert decoding_report(served.server.log.read_text()) == [
        (rank, served.ranks, elements // served.ranks, elements, len(weights), "none")
        for rank in range(served.ranks)
    ]


def test_stock_vllm_refuses_the_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    monkeypatch.chdir(folder)
    server = VllmServer(
        str(CHECKPOINT),
        CPU_ARGUMENTS,
        environment={**CPU_ENVIRONMENT, "VLLM_PLUGINS": ""},
        log=tmp_path / "server.log",
    )

    with pytest.raises(ServeError, match=r"exited with code [1-9]") as refusal, server:
        pass

    wait_until_left(folder)
    assert "Error: " in str(refusal.value)
    assert [line for line in server.log_lines("Error: ") if " WARNING " not in line]
    assert "ascend_dequant" not in server.log.read_text()
