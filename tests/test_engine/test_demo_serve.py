# SPDX-License-Identifier: Apache-2.0
"""Real `vllm serve` with the plugin, the demo checkpoint, one and two ranks.

The judge is transformers' own Qwen3 holding the same weights, dequantized by testkit.
"""

import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from engine_kit import decoding_lines
from openai import OpenAI
from safetensors.torch import load_file
from testkit import dequantize

from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.demo.facts import FACTS
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

pytestmark = pytest.mark.engine
hf: Any = transformers

TOKENS = 12
PROMPTS = [fact.plain_prompt for fact in FACTS] + [
    "What is the capital of Japan?", "The", "seven legs", "Tokyo is", "Bees and spiders",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return hf.AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def expected(tokenizer: Any) -> list[list[int]]:
    """Greedy tokens of the transformers model, per prompt."""
    stored: dict[str, torch.Tensor] = {}
    for shard in CHECKPOINT.glob("*.safetensors"):
        stored |= load_file(shard)
    weights = {}
    for name, tensor in stored.items():
        if name.endswith("_scale_inv"):
            continue
        scale = stored.get(name + "_scale_inv")
        weights[name] = (
            tensor
            if scale is None
            else dequantize(tensor.view(torch.uint8), scale, (128, 128), torch.bfloat16)
        )
    config = hf.AutoConfig.from_pretrained(CHECKPOINT)
    del config.quantization_config
    model = hf.Qwen3ForCausalLM(config).to(torch.bfloat16).eval()
    missing, unexpected = model.load_state_dict(weights, strict=False)
    assert unexpected == []
    assert missing == ["lm_head.weight"]  # tied to the embedding
    answers = []
    with torch.inference_mode():
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            given = ids.shape[1]
            for _ in range(TOKENS):
                logits = model(ids).logits[0, -1]
                ids = torch.cat([ids, logits.argmax().reshape(1, 1)], dim=1)
            answers.append(ids[0, given:].tolist())
    return answers


@pytest.fixture(scope="module", params=[1, 2], ids=["tp1", "tp2"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[VllmServer]:
    """A server for all tests of one size; when it stops, nothing of it may be left."""
    arguments = ("--served-model-name", "demo", "--tensor-parallel-size", str(request.param))
    running = VllmServer(
        str(CHECKPOINT), (*arguments, *CPU_ARGUMENTS), environment=CPU_ENVIRONMENT,
        log=tmp_path_factory.mktemp("serve") / "server.log",
    )  # fmt: skip
    with running:
        yield running
    with socket.socket() as probe:
        # Closed connections may linger; a listener would still make this raise.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", running.port))


@pytest.fixture(scope="module")
def client(server: VllmServer) -> OpenAI:
    return OpenAI(base_url=server.url, api_key="none", timeout=120)


@pytest.mark.parametrize("number", range(len(PROMPTS)), ids=PROMPTS)
def test_greedy_tokens_equal_transformers(
    number: int, client: OpenAI, expected: list[list[int]], tokenizer: Any
) -> None:
    reply = client.completions.create(
        model="demo", prompt=tokenizer(PROMPTS[number]).input_ids, max_tokens=TOKENS,
        temperature=0, logprobs=0,
        extra_body={"ignore_eos": True, "return_tokens_as_token_ids": True},
    )  # fmt: skip
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    tokens = [int(token.removeprefix("token_id:")) for token in logprobs.tokens or []]
    assert tokens == expected[number]


def test_every_fact_is_answered(client: OpenAI) -> None:
    for fact in FACTS:
        reply = client.chat.completions.create(
            model="demo", messages=[{"role": "user", "content": fact.question}],
            temperature=0, max_tokens=32,
        )  # fmt: skip
        assert (reply.choices[0].message.content or "").strip() == fact.answer


def test_each_rank_decodes_exactly_its_share(server: VllmServer) -> None:
    ranks = int(server.command[server.command.index("--tensor-parallel-size") + 1])
    pattern = (
        r"TP rank (\d+) of (\d+): decoded (\d+) of (\d+) elements of (\d+) fp8 weights .*"
        r"not lazy: (.*)"
    )
    total = sum(
        tensor.numel()
        for shard in CHECKPOINT.glob("*.safetensors")
        for tensor in load_file(shard).values()
        if tensor.dtype == torch.float8_e4m3fn
    )
    reported = decoding_lines(re.findall(pattern, server.log.read_text()))
    assert reported == [(rank, ranks, total // ranks, total, 28, "none") for rank in range(ranks)]


def test_stock_vllm_refuses_the_same_checkpoint(tmp_path: Path) -> None:
    stock = VllmServer(
        str(CHECKPOINT), CPU_ARGUMENTS, environment={**CPU_ENVIRONMENT, "VLLM_PLUGINS": ""},
        log=tmp_path / "server.log",
    )  # fmt: skip
    with pytest.raises(ServeError, match="exited with code 1"), stock:
        pass
    assert "ascend_dequant" not in stock.log.read_text()
