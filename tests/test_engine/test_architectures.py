# SPDX-License-Identifier: Apache-2.0
"""Our decoding in the real engine, against stock vLLM serving the same weights dequantized.

No tolerance there: a decoded weight is the very bf16 number that the dense checkpoint holds, so
every token and every log-probability must be equal. Sizes are chosen so that blocks of 128 have
tails and that a rank's slice starts inside a block.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import transformers
from engine_kit import EngineError, Generation, prompts, run_engine
from safetensors.torch import load_file
from testkit import LOGPROB_TOLERANCE, write_checkpoint
from twin_kit import (
    EXPERTS,
    SMALL,
    VOCABULARY,
    Twins,
    deepseek_v2,
    fuse_experts,
    random_weights,
    write_twins,
)

pytestmark = pytest.mark.engine
hf: Any = transformers


def _qwen3_moe() -> Any:
    return hf.Qwen3MoeConfig(
        **SMALL, hidden_size=288, intermediate_size=416, moe_intermediate_size=192,
        num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=80,
        num_experts=EXPERTS, num_experts_per_tok=EXPERTS, decoder_sparse_step=1,
        norm_topk_prob=True,
    )  # fmt: skip


def _mistral() -> Any:
    # One KV head: both ranks hold the whole of it.
    return hf.MistralConfig(
        **SMALL, hidden_size=288, intermediate_size=416, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=1, head_dim=80, sliding_window=None,
    )  # fmt: skip


def _gpt_oss() -> Any:
    return hf.GptOssConfig(
        **SMALL, hidden_size=256, intermediate_size=192, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, head_dim=64, num_local_experts=4,
        num_experts_per_tok=4, sliding_window=128,
    )  # fmt: skip


@dataclass(frozen=True)
class Case:
    """A checkpoint to compare.

    ``whole``: pattern of the weights that every rank holds whole. ``patched``: the dense twin too
    is served with the plugin, because a patch of it makes answers right that are not without.
    """

    config: Callable[[], Any]
    scheme: str = "block"
    whole: str = "nothing"
    fused: bool = False
    patched: bool = False
    ranks: tuple[int, ...] = (1, 2)


CASES = {
    # vLLM's CPU operator rotates MLA's three-dimensional queries wrongly (patch cpu_rotary).
    "deepseek-v2": Case(deepseek_v2, whole=r"\.(q_a_proj|kv_a_proj_with_mqa)\.", patched=True),
    "qwen3-moe": Case(_qwen3_moe),
    "mistral": Case(_mistral, whole=r"\.[kv]_proj\."),
    # The layout of the scales is what differs, and two ranks ask more of it than one.
    "qwen3-moe-fused-experts": Case(_qwen3_moe, fused=True, ranks=(2,)),
    "qwen3-moe-channel": Case(_qwen3_moe, scheme="channel", ranks=(2,)),
    # The experts are fp4 under the names of block fp8; attention is block fp8.
    "qwen3-moe-hybrid": Case(_qwen3_moe, scheme="hybrid", ranks=(2,)),
    "mistral-nvfp4": Case(_mistral, scheme="nvfp4", whole=r"\.[kv]_proj\.", ranks=(2,)),
    "mistral-int4": Case(_mistral, scheme="int4", whole=r"\.[kv]_proj\.", ranks=(2,)),
    "gpt-oss": Case(_gpt_oss, scheme="gpt-oss", ranks=(2,)),
    "mistral-tensor": Case(_mistral, scheme="tensor", whole=r"\.[kv]_proj\.", ranks=(2,)),
}
RUNS = [(name, tp) for name, case in CASES.items() for tp in case.ranks]


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Twins]:
    """The checkpoints of a case, written once."""
    written: dict[str, Twins] = {}

    def get(name: str) -> Twins:
        if name not in written:
            case = CASES[name]
            folder = tmp_path_factory.mktemp(name)
            tensors, config = random_weights(case.config(), folder / "transformers")
            if case.fused:
                tensors = fuse_experts(tensors)
            written[name] = write_twins(folder, tensors, config, case.scheme)
        return written[name]

    return get


def _difference(twins: Twins, generation: Generation, asked: list[list[int]]) -> float:
    """Largest of a first log-probability from transformers', with the dense twin in bf16."""
    model = hf.AutoModelForCausalLM.from_pretrained(twins.dense, dtype=torch.bfloat16).eval()
    largest = 0.0
    for prompt, generated in zip(asked, generation.logprobs, strict=True):
        with torch.inference_mode():
            row = torch.log_softmax(model(torch.tensor([prompt])).logits[0, -1].float(), dim=-1)
        for token, logprob in generated[0].items():
            largest = max(largest, abs(float(row[int(token)]) - logprob))
    return largest


@pytest.mark.parametrize(("name", "tp"), RUNS, ids=[f"{name}-tp{tp}" for name, tp in RUNS])
def test_answers_equal_stock_vllm_on_the_dense_checkpoint(
    name: str, tp: int, twins: Callable[[str], Twins]
) -> None:
    case, pair, asked = CASES[name], twins(name), prompts(VOCABULARY)
    try:
        stock = run_engine(pair.dense, asked, tp=tp, plugin=case.patched)
    except EngineError as error:
        if "MLA is not supported on CPU" not in error.log:
            raise
        pytest.skip("this vLLM has no MLA on CPU (0.27.1 has none)")
    ours = run_engine(pair.fp8, asked, tp=tp)

    assert stock.decoded == []
    assert ours.tokens == stock.tokens
    assert ours.logprobs == stock.logprobs
    # The comparison means little if the model says the same whatever it is asked.
    assert len({tuple(tokens) for tokens in ours.tokens}) == len(asked)

    mine = pair.elements(tp, lambda weight: bool(re.search(case.whole, weight)))
    everything = pair.elements(1, lambda weight: False)
    assert ours.decoded == [
        (rank, tp, mine, everything, len(pair.weights), "none") for rank in range(tp)
    ]

    assert _difference(pair, ours, asked) <= LOGPROB_TOLERANCE[torch.bfloat16]


def test_mla_is_wrong_on_cpu_without_the_patch(twins: Callable[[str], Twins]) -> None:
    """The day it is not, the patch can go."""
    pair, asked = twins("deepseek-v2"), prompts(VOCABULARY)
    try:
        alone = run_engine(pair.dense, asked, plugin=False)
    except EngineError as error:
        if "MLA is not supported on CPU" not in error.log:
            raise
        pytest.skip("this vLLM has no MLA on CPU (0.27.1 has none)")
    assert _difference(pair, alone, asked) > 1


def test_the_comparison_notices_one_wrong_scale_of_a_tail_block(
    twins: Callable[[str], Twins],
) -> None:
    # Its 32 by 32 corner is the smallest block there is in this file.
    pair, name = twins("mistral"), "model.layers.0.mlp.down_proj.weight_scale_inv"
    stored: dict[str, torch.Tensor] = {}
    for shard in pair.fp8.glob("*.safetensors"):
        stored |= load_file(shard)
    stored[name][-1, -1] *= 1.25
    config = json.loads((pair.fp8 / "config.json").read_text())
    wrong = write_checkpoint(pair.fp8.with_name("wrong"), stored, config)
    asked = prompts(VOCABULARY)

    assert run_engine(wrong, asked).logprobs != run_engine(pair.fp8, asked).logprobs
