# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as third-party quantizers wrote them; they lie beside the project, or not."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from engine_kit import run_engine
from safetensors.torch import load_file

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.decode import Decoder
from vllm_ascend_bringup.formats.pairing import decode_plan
from vllm_ascend_bringup.formats.schemes import scheme_table
from vllm_ascend_bringup.lazy_weight import LazyWeight
from vllm_ascend_bringup.weights import ShardReader, scaled_tensor

CHECKPOINTS = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "checkpoints"
hf: Any = transformers

pytestmark = pytest.mark.skipif(
    not CHECKPOINTS.exists(), reason="the third-party checkpoints are not beside the project"
)


@pytest.mark.parametrize("name", ["llmcompressor-FP8_BLOCK", "llmcompressor-FP8_DYNAMIC"])
def test_layer_0_equals_what_the_writer_reconstructs(name: str) -> None:
    checkpoint = read_checkpoint(CHECKPOINTS / name)
    assert checkpoint.quantization is not None
    table = scheme_table(checkpoint.quantization.settings)
    assert table is not None
    plan = decode_plan(checkpoint.tensors, table)
    expected = load_file(CHECKPOINTS / name / "expected" / "layer0.safetensors")
    reader = ShardReader(checkpoint.path)
    compared = 0
    with Decoder(2) as decoder:
        for weight, pairing in plan.pairings.items():
            if weight in expected:
                codes = reader.read(weight, pairing.weight.shard)
                scale = reader.read(pairing.scale.name, pairing.scale.shard)
                lazy = LazyWeight.wrap(
                    scaled_tensor(pairing, codes, scale), decoder, torch.bfloat16
                )
                assert torch.equal(lazy.materialize(), expected[weight]), weight
                compared += 1
    assert compared == 7  # q, k, v, o, gate, up, down


@pytest.mark.engine
@pytest.mark.parametrize(
    "name", ["llmcompressor-FP8_BLOCK", "llmcompressor-FP8_DYNAMIC", "modelopt-FP8"]
)
def test_it_loads_and_answers(name: str) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(CHECKPOINTS / name)
    prompt = tokenizer("The capital of France is").input_ids
    answer = run_engine(CHECKPOINTS / name, [prompt], tokens=4)
    assert tokenizer.decode(answer.tokens[0]).startswith(" Paris.")
    assert [lazy for *_, lazy in answer.decoded] == ["none"]
