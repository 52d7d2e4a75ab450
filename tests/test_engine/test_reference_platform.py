# SPDX-License-Identifier: Apache-2.0
"""Real servers on the reference platform answer as vLLM's plain CPU platform does, token by token.

Requests overlap: chunks of prompts, decoding and prefixes that are cached share steps. Prompts are
those where, by the plain platform's own numbers, no token is close: 16 bits are coarse, and a lead
within what rounding leaves may be lost to the order of a sum.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import ray_engine
import torch
import transformers
from engine_kit import EngineError, Generation, decoding_report, embed, run_engine, run_script
from server_kit import MODEL, all_serving, continue_all, metric
from twin_kit import SMALL, VOCABULARY, deepseek_v2, random_weights, write_twins

from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.demo.facts import FACTS
from vllm_ascend_bringup.tools.engines.engine import random_prompts
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

pytestmark = pytest.mark.engine
hf: Any = transformers

TOKENS = 12
REQUESTS = 16
# A prompt of more tokens than this is computed in chunks.
STEP = 64
# Of one token's log-probability over the next's. Logits of the demo model are in [8, 16), where
# bf16 steps by 0.06; those of random weights are below 2.
LEAD, RANDOM_LEAD = 0.25, 0.125
DTYPES = {"reference-310p": "float16", "reference-a2": "bfloat16"}


def serve(folder: Path, model: Path, platform: str, dtype: str, *more: str) -> VllmServer:
    """A server that is to be entered."""
    return VllmServer(
        str(model),
        (
            *CPU_ARGUMENTS, "--served-model-name", MODEL, "--dtype", dtype,
            "--max-num-batched-tokens", str(STEP), "--max-num-seqs", str(REQUESTS),
            "--skip-tokenizer-init", *more,
        ),
        environment={
            **CPU_ENVIRONMENT, "OMP_NUM_THREADS": "1", "VLLM_ASCEND_BRINGUP_PLATFORM": platform
        },
        log=folder / f"{platform}{len(more)}.log",
    )  # fmt: skip


@dataclass(frozen=True)
class Clear:
    """Prompts, and the tokens after them on the plain platform, each with a lead over the next."""

    prompts: list[list[int]]
    tokens: list[list[int]]


def clear_ones(
    model: Path, drawn: list[list[int]], tokens: int, dtype: str, lead: float, longest: int = 512
) -> Clear:
    """Of the prompts that were drawn, the clear ones."""
    plain = on_plain_platform(
        model,
        drawn,
        tokens=tokens,
        dtype=dtype,
        max_model_len=longest,
        max_num_batched_tokens=STEP,
    )
    kept = [index for index, steps in enumerate(plain.logprobs) if min(map(_lead, steps)) > lead]
    assert len(kept) >= 20
    return Clear([drawn[index] for index in kept], [plain.tokens[index] for index in kept])


def on_plain_platform(model: Path, drawn: list[list[int]], **engine: Any) -> Generation:
    """Skips where this vLLM has no attention for it on CPUs, as 0.27.1 in two cases."""
    try:
        return run_engine(model, drawn, **engine)
    except EngineError as error:
        for lacking in ("MLA is not supported on CPU", "cpu_attn_amx.hpp"):
            if lacking in error.log:
                pytest.skip(f"this vLLM's own CPU platform: {lacking}")
        raise


def _lead(step: dict[str, float]) -> float:
    first, second, *_ = sorted(step.values(), reverse=True)
    return first - second


def assert_equal(server: VllmServer, expected: Clear, tokens: int) -> None:
    """All at once, as many as the server takes, and again one by one."""
    for at_once in (REQUESTS, 1):
        assert continue_all(server, expected.prompts, tokens, at_once) == expected.tokens


@pytest.mark.parametrize("platform", DTYPES)
def test_tokens_equal_those_of_the_plain_platform(platform: str, tmp_path: Path) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(CHECKPOINT)
    text = tokenizer.encode(" ".join([fact.answer for fact in FACTS] * 3))
    drawn = [text[:cut] for cut in range(1, 360, 4)]
    expected = clear_ones(CHECKPOINT, drawn, TOKENS, DTYPES[platform], LEAD)
    # Several chunks; and two whole blocks of the cache, which all of these begin with.
    assert sum(len(prompt) > 256 for prompt in expected.prompts) >= 5
    servers = [
        serve(tmp_path, CHECKPOINT, platform, DTYPES[platform]),
        serve(tmp_path, CHECKPOINT, platform, DTYPES[platform], "--no-enable-prefix-caching"),
    ]
    with all_serving(servers):
        for server, caching in zip(servers, (True, False), strict=True):
            assert_equal(server, expected, TOKENS)
            assert bool(metric(server, "vllm:prefix_cache_hits_total")) is caching
            assert server.log_lines(f"{platform}: the chip's limits, KV cache and attention")


def test_mla_too(tmp_path: Path) -> None:
    tensors, config = random_weights(deepseek_v2(max_position_embeddings=512), tmp_path)
    model = write_twins(tmp_path, tensors, config, "block").fp8
    lengths = [1, 17, 64, 65, 130, 257, 300] * 40
    expected = clear_ones(model, random_prompts(VOCABULARY, lengths), 4, "bfloat16", RANDOM_LEAD)
    assert {len(prompt) for prompt in expected.prompts} == set(lengths)
    with serve(tmp_path, model, "reference-a2", "bfloat16") as server:
        assert_equal(server, expected, 4)
        assert metric(server, "vllm:prefix_cache_hits_total") > 0


RAY = Path(ray_engine.__file__)


def test_two_ranks_under_ray(tmp_path: Path) -> None:
    """fp8, and a norm that only a patch gets right when two ranks share a KV head."""
    from vllm_ascend_bringup.tools.qk_norm.models import MODELS, VOCABULARY, write

    model = write(MODELS["OlmoeForCausalLM"], 1, tmp_path).fp8
    assert model
    expected = clear_ones(
        model, random_prompts(VOCABULARY, [*range(1, 101)] * 4), 3, "bfloat16", RANDOM_LEAD, 128
    )
    request = {"model": str(model), "prompts": expected.prompts, "tokens": 3}
    answer, log = run_script(
        RAY, request, environment={
            "VLLM_ASCEND_BRINGUP_PLATFORM": "reference-a2",
            "VLLM_ALLOW_INSECURE_SERIALIZATION": "1",  # attention_classes is a function
            "PYTHONPATH": str(RAY.parent),
        },
    )  # fmt: skip
    assert answer["tokens"] == expected.tokens
    assert answer["attention"] == [["ReferenceImpl"], ["ReferenceImpl"]]
    (first, second) = decoding_report(log)
    assert (first[:2], second[:2]) == ((0, 2), (1, 2))
    assert 0 < first[2] < first[3]


def test_the_plain_platform_refuses_ray(tmp_path: Path) -> None:
    request = {"model": str(CHECKPOINT), "prompts": [[1]], "tokens": 1}
    with pytest.raises(EngineError, match="current platform cpu does not support ray"):
        run_script(RAY, request)


def _other_models() -> dict[str, Any]:
    """Attention that differs from the demo model's: windows, head sizes, no groups of heads."""
    sizes = {
        **SMALL, "max_position_embeddings": 512, "num_hidden_layers": 2, "hidden_size": 256,
        "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2,
    }  # fmt: skip
    return {
        "window": hf.MistralConfig(**sizes, head_dim=64, sliding_window=20),
        # Windows in five layers of six.
        "gemma3": hf.Gemma3TextConfig(
            **{**sizes, "num_hidden_layers": 6}, head_dim=64, sliding_window=32,
            query_pre_attn_scalar=64,
        ),
        "head size 80": hf.Qwen3Config(**sizes, head_dim=80),
        # Blocks of 64 on the 310P.
        "head size 256": hf.Qwen3Config(**sizes, head_dim=256),
        "no groups": hf.OPTConfig(
            vocab_size=VOCABULARY, hidden_size=256, ffn_dim=256, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=512, word_embed_proj_dim=256,
        ),
    }  # fmt: skip


def save(config: Any, folder: Path) -> None:
    """Weights that make some tokens likelier than others."""
    torch.manual_seed(0)
    model = hf.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() == 2:
            parameter.data.normal_(0, 1.5 * parameter.shape[1] ** -0.5)
    model.bfloat16().save_pretrained(folder)


# Log-probabilities of the two platforms were within 0.007 in float16, and 0.063 in bfloat16; with
# a window of one key more they are 0.2 apart.
APART = {"float16": 0.02, "bfloat16": 0.12}


@pytest.mark.parametrize("platform", DTYPES)
@pytest.mark.parametrize("name", _other_models())
def test_other_attention(name: str, platform: str, tmp_path: Path) -> None:
    dtype = DTYPES[platform]
    if (name, dtype) == ("gemma3", "float16"):
        pytest.skip("vLLM refuses Gemma 3 in float16")
    save(_other_models()[name], tmp_path)
    drawn = random_prompts(VOCABULARY, [1, 5, 30, 70, 128, 129, 200, 300])
    engine = {"tokens": 8, "dtype": dtype, "max_model_len": 400, "max_num_batched_tokens": STEP}
    plain = on_plain_platform(tmp_path, drawn, **engine)
    ours = run_engine(tmp_path, drawn, platform=platform, **engine)
    compared = 0
    for one, other in zip(plain.logprobs, ours.logprobs, strict=True):
        for step, same in zip(one, other, strict=True):
            both = step.keys() & same.keys()
            assert max(abs(step[token] - same[token]) for token in both) < APART[dtype]
            compared += 1
            if max(step, key=step.__getitem__) != max(same, key=same.__getitem__):
                break  # from here on the texts differ
    assert compared >= 40


@pytest.mark.parametrize("platform", DTYPES)
def test_embeddings_without_causality(platform: str, tmp_path: Path) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(CHECKPOINT)
    tokenizer.save_pretrained(tmp_path)  # vLLM wants one here
    config = hf.BertConfig(
        vocab_size=len(tokenizer), hidden_size=256, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=256,
    )  # fmt: skip
    torch.manual_seed(0)
    hf.BertModel(config).save_pretrained(tmp_path)
    drawn = random_prompts(VOCABULARY, [1, 5, 30, 70, 128, 129, 300])
    plain, ours = (
        torch.tensor(
            embed(tmp_path, drawn, platform=which, dtype=DTYPES[platform], max_model_len=400)
        )
        for which in ("auto", platform)
    )
    torch.testing.assert_close(ours, plain, atol=0.005, rtol=0)
    assert (plain[1] - plain[2]).abs().max() > 0.02


@pytest.mark.parametrize(
    ("config", "found"),
    [
        (hf.GptOssConfig, "attention sinks on the reference platform"),
        (hf.BloomConfig, "ALiBi on the reference platform"),
    ],
)
def test_what_the_reference_does_not_compute_is_refused(
    config: Any, found: str, tmp_path: Path
) -> None:
    small = {
        "num_hidden_layers": 1, "hidden_size": 64, "intermediate_size": 64, "head_dim": 32,
             "num_attention_heads": 2, "num_key_value_heads": 1, "num_local_experts": 2,
             "num_experts_per_tok": 1, "vocab_size": VOCABULARY, "n_layer": 1, "n_head": 2,
    }  # fmt: skip
    save(config(**small), tmp_path)
    with pytest.raises(EngineError, match=found):
        run_engine(tmp_path, [[1]], platform="reference-a2", dtype="bfloat16")
