# SPDX-License-Identifier: Apache-2.0
"""A sample of the conformance sweep (`make conformance` runs all of it), and its verdicts."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from testkit import LOGPROB_TOLERANCE, dequantize, quantize

from vllm_ascend_bringup.tools.conformance import twins
from vllm_ascend_bringup.tools.conformance.results import TOLERANCE, Result
from vllm_ascend_bringup.tools.conformance.verdicts import judge

SAMPLE = (
    "LlamaForCausalLM",  # GQA
    "Gemma2ForCausalLM",  # norms around, soft caps, tied embeddings
    "Phi3ForCausalLM",  # fused qkv and gate_up on disk
    "Qwen3MoeForCausalLM",  # experts one by one
    "GraniteMoeForCausalLM",  # experts fused
    "Qwen3NextForCausalLM",  # linear attention, shared expert
    "LagunaForCausalLM",  # sigmoid router, its bias beside the experts: two patches
)
_DENSE = "InvalidArgument: no kernel"


@pytest.mark.engine
def test_a_sample_conforms(tmp_path: Path) -> None:
    output = tmp_path / "conformance.md"
    command = [sys.executable, "-m", "vllm_ascend_bringup.tools.conformance", *SAMPLE,
               "--output", str(output), "--logs", str(tmp_path)]  # fmt: skip
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=600, cwd=tmp_path, env={**os.environ}
    )

    assert ran.returncode == 0, ran.stdout + ran.stderr
    written = output.read_text()
    rows = [line.split(" | ") for line in written.splitlines() if "ForCausalLM" in line]
    assert [row[0].removeprefix("| ") for row in rows] == list(SAMPLE)
    assert [row[2] for row in rows] == ["yes"] * len(SAMPLE)
    assert [row[4] for row in rows[:-1]] == ["pass |"] * (len(SAMPLE) - 1)
    assert rows[-1][4].startswith("pass (patched): vLLM alone fails: ")
    assert f"{len(SAMPLE)} architectures: {len(SAMPLE) - 1} pass, 1 pass (patched)." in written


@pytest.mark.parametrize(
    ("result", "outcome", "explained"),
    [
        (Result("A", equal=True, difference=0.01), "pass", True),
        (Result("A", skipped="no tokenizer"), "skipped", True),
        (Result("A", build_error=_DENSE), "fail (the sweep)", False),
        (Result("A", dense_error=_DENSE), "fail (vLLM)", True),
        (Result("A", fp8_error=_DENSE), "fail (ours)", False),
        (Result("A", equal=False, difference=0.01), "fail (ours)", False),
        (Result("A", equal=True, difference=2.0), "fail (unexplained)", False),
        (Result("A", equal=True, transformers_error=_DENSE), "fail (unexplained)", False),
        # A patch excuses that vLLM alone fails or differs, and nothing else.
        (Result("A", patched=True, equal=True, difference=0.01), "pass (patched)", True),
        (Result("A", patched=True, equal=True, difference=2.0), "fail (unexplained)", False),
        (Result("A", patched=True, equal=False, difference=0.01), "fail (ours)", False),
        (Result("A", patched=True, stock_error=_DENSE, fp8_error=_DENSE), "fail (ours)", False),
        (Result("A", stock_error=_DENSE, dense_error=_DENSE), "fail (vLLM)", True),
    ],
)
def test_only_what_fails_without_us_is_not_ours(
    result: Result, outcome: str, explained: bool
) -> None:
    verdict = judge(result)

    assert (verdict.outcome, verdict.explained) == (outcome, explained)


def test_the_tolerance_is_that_of_the_engine_tests() -> None:
    assert LOGPROB_TOLERANCE[torch.bfloat16] == TOLERANCE


@pytest.mark.parametrize("shape", [(256, 384), (200, 130), (64, 512)])
def test_its_quantizer_agrees_with_that_of_the_tests(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape)
    codes, scale = twins.quantize(weight)
    expected, expected_scale = quantize(weight, (twins.BLOCK, twins.BLOCK))

    assert torch.equal(codes.view(torch.uint8), expected)
    assert torch.equal(scale, expected_scale)
    block = (twins.BLOCK, twins.BLOCK)
    assert torch.equal(
        twins.dequantize(codes, scale), dequantize(expected, scale, block, torch.bfloat16)
    )
