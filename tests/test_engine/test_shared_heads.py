# SPDX-License-Identifier: Apache-2.0
"""Every model whose ranks could not share KV heads: real vLLM with and without the plugin."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from engine_kit import prompts, run_engine
from server_kit import MODEL, complete

from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.plugin import TESTED_VLLM
from vllm_ascend_bringup.tools.conformance.results import TOLERANCE
from vllm_ascend_bringup.tools.qk_norm.results import PROMPTS, Result
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

ALL = f"{PROMPTS} of {PROMPTS}"
# What vLLM alone says when ranks share KV heads; MiniMax-M2 is right there, but not on CPU. OLMo 2
# is wrong only where there are several.
ALONE = {
    "OlmoeForCausalLM": "size of tensor a (64) must match the size of tensor b (32)",
    "OlmoHybridForCausalLM": "size of tensor a (64) must match the size of tensor b (32)",
    "Olmo2ForCausalLM": "Cannot gather norm of width 64",
    "MolmoForCausalLM": "size of tensor a (64) must match the size of tensor b (32)",
    "Molmo2ForConditionalGeneration": "size of tensor a (64) must match the size of tensor b (32)",
    "CohereForCausalLM": "start (1) + length (1) exceeds dimension size (1)",
    "GptOssForCausalLM": "integer modulo by zero",
    "InternLM2ForCausalLM": "shape '[590, 1, 6, 32]' is invalid",
    "Param2MoEForCausalLM": "num_key_value_heads (1) must be divisible by",
    "MiniMaxM2ForCausalLM": 'assert self.scoring_func == "softmax"',
}
FOUR_RANKS = (
    "OlmoeForCausalLM",
    "Olmo2ForCausalLM",
    "CohereForCausalLM",
    "MiniMaxM2ForCausalLM",
)
# What vLLM 0.27.1 lacks on CPU: experts in float32, and the tiny model's own config class.
LACKS = ("CPU fused-MoE AMX grouped-gemm kernel cannot be used", "OLMoHybrid expects at least one")
Rows = dict[tuple[str, int], list[str]]


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Rows:
    """Architecture and ranks -> the cells of its row."""
    folder = tmp_path_factory.mktemp("qk-norm")
    command = [sys.executable, "-m", "vllm_ascend_bringup.tools.qk_norm", "--output",
               str(folder / "qk-norm.md"), "--logs", str(folder)]  # fmt: skip
    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=1500, cwd=folder, check=False
    )
    assert (folder / "qk-norm.md").exists(), ran.stdout + ran.stderr
    found: Rows = {}
    for line in (folder / "qk-norm.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if cells[0] in ALONE:
            found[cells[0], int(cells[2])] = cells
    return found


def skip_what_it_lacks(cells: list[str]) -> None:
    if installed_vllm().version == TESTED_VLLM[0] and any(lack in cells[4] for lack in LACKS):
        pytest.skip(f"vLLM {TESTED_VLLM[0]} cannot run this on CPU: {cells[4][:80]}")


@pytest.mark.engine
@pytest.mark.parametrize("architecture", ALONE)
def test_ranks_that_share_heads_answer_as_transformers_does(rows: Rows, architecture: str) -> None:
    skip_what_it_lacks(rows[architecture, 2])
    for ranks in (1, 2, 4) if architecture in FOUR_RANKS else (1, 2):
        cells = rows[architecture, ranks]
        assert cells[4] == ALL
        assert 0 < float(cells[5]) <= TOLERANCE
        assert cells[6] == ("yes" if architecture in FOUR_RANKS else "-")


@pytest.mark.engine
@pytest.mark.parametrize("architecture", ALONE)
def test_without_the_plugin_they_do_not(rows: Rows, architecture: str) -> None:
    skip_what_it_lacks(rows[architecture, 2])
    ranks = 4 if architecture == "Olmo2ForCausalLM" else 2
    assert ALONE[architecture] in rows[architecture, ranks][3]
    if architecture != "MiniMaxM2ForCausalLM":
        # It is the sharing that fails: alone, a rank is right.
        assert rows[architecture, 1][3] == ALL


@pytest.mark.engine
def test_a_server_of_two_ranks_is_patched_too(tmp_path: Path) -> None:
    """Above, every rank is a child of the tool; here `vllm serve` starts them, and answers HTTP."""
    from vllm_ascend_bringup.tools.qk_norm.models import MODELS, VOCABULARY, write

    checkpoint = write(MODELS["OlmoeForCausalLM"], 1, tmp_path)
    checkpoint.reference.generation_config.eos_token_id = None
    arguments = [
        *CPU_ARGUMENTS, "--max-model-len", "128", "--tensor-parallel-size", "2", "--dtype",
        "float32", "--skip-tokenizer-init", "--served-model-name", MODEL,
    ]  # fmt: skip
    server = VllmServer(
        str(checkpoint.folder), arguments, environment=CPU_ENVIRONMENT, log=tmp_path / "log"
    )
    with server:
        for prompt in prompts(VOCABULARY):
            found = complete(server, prompt, 8, detokenize=False)["token_ids"]
            expected = checkpoint.reference.generate(
                torch.tensor([prompt]), max_new_tokens=8, do_sample=False
            )
            assert found == expected[0, len(prompt) :].tolist()


@pytest.mark.engine
@pytest.mark.parametrize(
    "architecture", ["OlmoeForCausalLM", "CohereForCausalLM", "MiniMaxM2ForCausalLM"]
)
def test_compiled_models_are_patched_too(architecture: str, tmp_path: Path) -> None:
    """Without --enforce-eager vLLM has Dynamo read the model's code, and ours in it, as a whole."""
    from vllm_ascend_bringup.tools.qk_norm.models import MODELS, VOCABULARY, write

    model = MODELS[architecture]
    checkpoint = write(model, 2 if architecture == "MiniMaxM2ForCausalLM" else 1, tmp_path)
    eager, compiled = (
        run_engine(
            checkpoint.folder, prompts(VOCABULARY), tp=2, tokens=4, dtype="float32",
            enforce_eager=eager,
            # What Dynamo reads is run as it is: compiling it takes a minute, and is not ours.
            environment={"TORCHDYNAMO_DISABLE": str(int(eager)), "VLLM_CPU_CI_ENV": "1"},
            **model.engine,
        )
        for eager in (True, False)
    )  # fmt: skip
    assert compiled.tokens == eager.tokens


def test_every_architecture_of_a_patch_that_runs_on_cpu_is_examined() -> None:
    patched = {patch.shared_kv_heads[0] for patch in PATCHES.values() if patch.shared_kv_heads}
    # vLLM's attention with sinks needs FlashAttention: see test_patched_layers.py.
    assert patched - {"PanguEmbeddedForCausalLM"} == ALONE.keys() - {"MiniMaxM2ForCausalLM"}


@pytest.mark.parametrize(
    ("result", "good"),
    [
        (Result("A", 1, 2, ours=PROMPTS, difference=0.1), True),
        (Result("A", 1, 2, ours=PROMPTS, difference=0.1, fp8_equal=True), True),
        (Result("A", 1, 2, ours=PROMPTS, difference=0.1, fp8_equal=False), False),
        (Result("A", 1, 2, ours=PROMPTS - 1, difference=0.1), False),
        (Result("A", 1, 2, ours=PROMPTS, difference=0.2), False),
        (Result("A", 1, 2, ours=PROMPTS), False),
        (Result("A", 1, 2, error="RuntimeError"), False),
    ],
)
def test_what_is_good(result: Result, good: bool) -> None:
    assert result.good is good
