# SPDX-License-Identifier: Apache-2.0
"""One model over some ranks: vLLM alone, vLLM with the plugin, and transformers' own answer."""

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from vllm_ascend_bringup.tools.engines.child import ChildError, in_child
from vllm_ascend_bringup.tools.engines.engine import (
    Generation,
    generate,
    generate_in_ranks,
    random_prompts,
    without_plugins,
)
from vllm_ascend_bringup.tools.qk_norm.models import VOCABULARY, TinyModel, write
from vllm_ascend_bringup.tools.qk_norm.results import PROMPTS, Result

_TOKENS = 8
# Of 1, 4, 7 ... tokens: several pages of the KV cache.
_LENGTHS = range(1, 1 + 3 * PROMPTS, 3)


def examine(model: TinyModel, kv_heads: int, ranks: int, log: Path, timeout: float) -> Result:
    """``log``: gets all that vLLM prints. ``timeout``: seconds for each engine."""
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="qk-norm-") as scratch:
        folder = Path(scratch)
        expected, dense, fp8 = in_child(_build, model, kv_heads, folder, log=log, timeout=timeout)
        over_ranks = functools.partial(generate_in_ranks, ranks, log=log, timeout=timeout)
        try:
            alone = over_ranks(_generate_alone, model, dense)
            found["alone"] = _equal(alone.tokens, expected)
        except ChildError as error:
            found["alone_error"] = str(error)
        try:
            ours = over_ranks(_generate, model, dense, "float32")
            found["ours"] = _equal(ours.tokens, expected)
            rounded = over_ranks(_generate, model, dense, "bfloat16")
            if fp8:
                found["fp8_equal"] = over_ranks(_generate, model, fp8, "bfloat16") == rounded
            found["difference"] = in_child(
                _difference, model, kv_heads, folder / "again", rounded, log=log, timeout=timeout
            )
        except ChildError as error:
            found["error"] = str(error)
    return Result(model.architecture, kv_heads, ranks, **found)


def _build(
    model: TinyModel, kv_heads: int, folder: Path
) -> tuple[list[list[int]], Path, Path | None]:
    """Write the checkpoint. Returns transformers' greedy tokens, and where the checkpoints are."""
    checkpoint = write(model, kv_heads, folder)
    reference = checkpoint.reference
    # Else it stops there, and pads.
    reference.generation_config.eos_token_id = None
    tokens = []
    for prompt in _prompts():
        with torch.inference_mode():
            ids = reference.generate(
                torch.tensor([prompt]), max_new_tokens=_TOKENS, do_sample=False
            )
        tokens.append(ids[0, len(prompt) :].tolist())
    return tokens, checkpoint.folder, checkpoint.fp8


def _generate_alone(model: TinyModel, folder: Path) -> Generation:
    without_plugins()
    return _generate(model, folder, "float32")


def _generate(model: TinyModel, folder: Path, dtype: str) -> Generation:
    return generate(folder, _prompts(), _TOKENS, dtype=dtype, **model.engine)


def _equal(tokens: Sequence[Sequence[int]], expected: Sequence[Sequence[int]]) -> int:
    return sum(a == b for a, b in zip(tokens, expected, strict=True))


def _difference(model: TinyModel, kv_heads: int, folder: Path, generation: Generation) -> float:
    """From what transformers says about every token that vLLM considered, at most."""
    reference = write(model, kv_heads, folder).reference
    largest = 0.0
    steps = zip(_prompts(), generation.tokens, generation.logprobs, strict=True)
    for prompt, tokens, considered in steps:
        with torch.inference_mode():
            logits = reference(torch.tensor([prompt + tokens])).logits[0]
        expected = torch.log_softmax(logits[len(prompt) - 1 : -1].float(), -1)
        for row, logprobs in zip(expected, considered, strict=True):
            for token, logprob in logprobs.items():
                largest = max(largest, abs(float(row[token]) - logprob))
    return largest


def _prompts() -> list[list[int]]:
    return random_prompts(VOCABULARY, _LENGTHS)
