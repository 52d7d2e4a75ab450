# SPDX-License-Identifier: Apache-2.0
"""Checkpoints as third-party quantizers wrote them; they lie beside the project, or not."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from engine_kit import run_engine
from safetensors.torch import load_file

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.decode import Decoder
from vllm_ascend_bringup.formats.families.base import SchemeTable
from vllm_ascend_bringup.formats.pairing import decode_plan
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes
from vllm_ascend_bringup.lazy_weight import LazyWeight
from vllm_ascend_bringup.weights import ShardReader, lazy_weights

CHECKPOINTS = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "checkpoints"
hf: Any = transformers

# Checkpoint -> title of the format of all its 28 linear layers.
WRITTEN = {
    "llmcompressor-FP8_BLOCK": "block fp8",
    "llmcompressor-FP8_DYNAMIC": "per-channel fp8",
    "llmcompressor-MXFP4A16": "MXFP4",
    "llmcompressor-MXFP8A16": "MXFP8",
    "llmcompressor-NVFP4A16": "NVFP4",
    "llmcompressor-W4A16": "packed int",
    "llmcompressor-W8A16": "packed int",
    "modelopt-FP8": "per-tensor fp8",
    "modelopt-FP8_PB_WO": "ModelOpt block fp8",
    "modelopt-MXFP8": "MXFP8",
    "modelopt-NVFP4": "ModelOpt NVFP4",
}

pytestmark = pytest.mark.skipif(
    not CHECKPOINTS.exists(), reason="the third-party checkpoints are not beside the project"
)


@pytest.mark.parametrize("name", [name for name in WRITTEN if name.startswith("llmcompressor")])
def test_layer_0_equals_what_the_writer_reconstructs(name: str) -> None:
    # The writers' README allows one bf16 unit for all but fp8; none is needed.
    checkpoint = read_checkpoint(CHECKPOINTS / name)
    table = checkpoint_schemes(checkpoint)
    assert isinstance(table, SchemeTable)
    plan = decode_plan(checkpoint.tensors, table)
    expected = load_file(CHECKPOINTS / name / "expected" / "layer0.safetensors")
    reader = ShardReader(checkpoint.path)
    compared = set()
    with Decoder(2) as decoder:
        for codes, pairing in plan.pairings.items():
            stored = reader.read(codes, pairing.stored.codes.shard)
            for weight, lazy in lazy_weights(pairing, stored, reader, decoder, torch.bfloat16):
                if weight in expected:
                    assert isinstance(lazy, LazyWeight)
                    assert torch.equal(lazy.materialize(), expected[weight]), weight
                    compared.add(re.sub(r".*\.(\w+)_proj\.weight", r"\1", weight))
    assert compared == {"q", "k", "v", "o", "gate", "up", "down"}


@pytest.mark.engine
@pytest.mark.parametrize("name", WRITTEN)
def test_it_loads_and_answers(name: str) -> None:
    tokenizer = hf.AutoTokenizer.from_pretrained(CHECKPOINTS / name)
    prompt = tokenizer("The capital of France is").input_ids
    answer = run_engine(CHECKPOINTS / name, [prompt], tokens=4)
    assert tokenizer.decode(answer.tokens[0]).startswith(" Paris.")
    ((_, _, decoded, elements, weights, lazy),) = answer.decoded
    assert (decoded, weights, lazy) == (elements, 28, "none")


@pytest.mark.parametrize("name", WRITTEN)
def test_every_linear_layer_has_the_format_its_folder_is_named_after(name: str) -> None:
    checkpoint = read_checkpoint(CHECKPOINTS / name)
    table = checkpoint_schemes(checkpoint)
    assert isinstance(table, SchemeTable)
    pairings = decode_plan(checkpoint.tensors, table).pairings.values()
    assert [pairing.format.title for pairing in pairings] == [WRITTEN[name]] * 28
