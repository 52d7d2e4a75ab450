# SPDX-License-Identifier: Apache-2.0
"""One architecture: twins, both through vLLM, and transformers' own answer, each in a child."""

import functools
import re
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import transformers

from vllm_ascend_bringup.tools.conformance.architectures import (
    VOCABULARY,
    Architecture,
    tiny_config,
)
from vllm_ascend_bringup.tools.conformance.results import Result
from vllm_ascend_bringup.tools.conformance.twins import Twins, write_twins
from vllm_ascend_bringup.tools.engines.child import ChildError, in_child
from vllm_ascend_bringup.tools.engines.engine import (
    Generation,
    generate,
    random_prompts,
    without_plugins,
)

hf: Any = transformers

# One token, and enough for several pages of the KV cache.
_PROMPT_LENGTHS = (1, 9, 24, 50)
_TOKENS = 8
# Standard deviation of log-probabilities over the vocabulary, several times the tolerance.
_FLAT = 0.5
# In vLLM every token of a prompt sees all of it; transformers wants to be told.
_BIDIRECTIONAL_PROMPTS = ("HrmTextForCausalLM",)
_DECODED = re.compile(r"TP rank 0 of 1: decoded (\d+) of")


def examine(architecture: Architecture, log: Path, timeout: float) -> Result:
    """Everything about one architecture, up to the first step that fails.

    ``log``: gets all that vLLM prints. ``timeout``: seconds for each step.
    """
    started = time.monotonic()
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        step = "build_error"
        try:
            run = functools.partial(in_child, log=log, timeout=timeout)
            twins = run(_build, Path(folder), architecture)
            step = "dense_error"
            try:
                dense = run(_generate_stock, twins.dense)
            except ChildError as error:
                found["stock_error"] = str(error)
                dense = run(_generate_patched, twins.dense)
                found["patched"] = True
            step = "fp8_error"
            decoded = run(_generate_decoded, twins, log)
            if decoded != dense and not found.get("patched"):
                # A patch of ours may change what both answer.
                dense = run(_generate_patched, twins.dense)
                found["patched"] = True
            found["equal"] = decoded == dense
            step = "transformers_error"
            found["difference"] = run(_difference, twins.dense, architecture.name, dense)
        except ChildError as error:
            found[step] = str(error)
    seconds = round(time.monotonic() - started, 1)
    return Result(architecture.name, **found, seconds=seconds)


def _build(folder: Path, architecture: Architecture) -> Twins:
    torch.manual_seed(0)
    model = getattr(hf, architecture.name)(tiny_config(architecture)).float().eval()
    twins = write_twins(folder, model)
    if not twins.elements:
        raise ValueError("no weight was quantized")
    return twins


def _generate_stock(model: Path) -> Generation:
    """What vLLM generates without any plugin."""
    without_plugins()
    return generate(model, _prompts(), _TOKENS)


def _generate_patched(model: Path) -> Generation:
    """What vLLM generates with the plugin, which has nothing to decode here."""
    return generate(model, _prompts(), _TOKENS)


def _generate_decoded(twins: Twins, log: Path) -> Generation:
    """What the fp8 checkpoint generates; raises ValueError if not all of it was decoded.

    ``log``: where this process's output goes, our loader's report too.
    """
    generation = generate(twins.fp8, _prompts(), _TOKENS)
    decoded = sum(map(int, _DECODED.findall(log.read_text(errors="replace"))))
    if decoded != twins.elements:
        raise ValueError(f"{decoded} of {twins.elements} elements were decoded")
    return generation


def _difference(folder: Path, name: str, generation: Generation) -> float:
    """How far the first log-probabilities are from transformers' in float32, at most.

    Raises ValueError if these hardly depend on the token: everything would agree then.
    """
    model = getattr(hf, name).from_pretrained(folder, dtype=torch.float32).eval()
    largest = 0.0
    ones = name in _BIDIRECTIONAL_PROMPTS
    for prompt, steps in zip(_prompts(), generation.logprobs, strict=True):
        with torch.inference_mode():
            tokens = torch.tensor([prompt])
            types = {"token_type_ids": torch.ones_like(tokens)} if ones else {}
            expected = torch.log_softmax(model(tokens, **types).logits[0, -1].float(), -1)
        if float(expected.std()) < _FLAT:
            raise ValueError("the log-probabilities are too flat to compare")
        for token, logprob in steps[0].items():
            largest = max(largest, abs(float(expected[token]) - logprob))
    return largest


def _prompts() -> list[list[int]]:
    return random_prompts(VOCABULARY, _PROMPT_LENGTHS)
