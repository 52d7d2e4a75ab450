# SPDX-License-Identifier: Apache-2.0
"""Every serve command of vllm-ascend's guide for the Atlas 300I Duo: the plan's has the same flags.

The guide's own choices (address, port, name of the model) go behind ``--``, as a user would.
"""

import json
import shlex
from dataclasses import dataclass
from pathlib import Path

import pytest
from planned_models import write_by_ranks, write_model

from vllm_ascend_bringup.tools.plan import PlanRequest, make_plan

GIB = 1 << 30
OWN = ("--host", "127.0.0.1", "--port", "8080", "--served-model-name", "qwen")
COMMON = {
    "host": "127.0.0.1", "port": 8080, "served-model-name": "qwen", "dtype": "float16",
    "gpu-memory-utilization": 0.9, "quantization": "ascend",
    "additional-config": {"ascend_compilation_config": {"fuse_norm_quant": False}},
}  # fmt: skip
COMPRESSED = {"no-enable-prefix-caching": None, "load-format": "sharded_state"}


def graphs(*sizes: int) -> dict[str, object]:
    return {"cudagraph_mode": "FULL_DECODE_ONLY", "cudagraph_capture_sizes": list(sizes)}


@dataclass(frozen=True)
class Guided:
    """One command: what was asked for, and its flags. ``more``: those the plan adds."""

    model: str
    tp: int
    concurrency: int
    length: int
    ranks_of: int
    flags: dict[str, object]
    more: frozenset[str] = frozenset()


EXAMPLES = [
    Guided("Qwen3-8B", 1, 32, 16384, 0, {
        "tensor-parallel-size": 1, "max-model-len": 16384,
        "compilation-config": graphs(1, 2, 4, 8, 16, 32)}, frozenset({"max-num-seqs"})),
    Guided("Qwen3-8B", 1, 32, 16384, 8 * GIB, {
        **COMPRESSED, "tensor-parallel-size": 1, "max-num-seqs": 32, "max-model-len": 16384,
        "compilation-config": graphs(1, 2, 4, 8, 16, 32)}),
    Guided("Qwen3-14B", 1, 16, 16384, 13 * GIB, {
        **COMPRESSED, "tensor-parallel-size": 1, "max-num-seqs": 16, "max-model-len": 16384,
        "compilation-config": graphs(1, 2, 4, 8, 16)}),
    Guided("Qwen3-32B", 4, 32, 20480, 7 * GIB, {
        **COMPRESSED, "tensor-parallel-size": 4, "max-num-seqs": 32, "max-model-len": 20480,
        "compilation-config": graphs(16, 32)}),
]  # fmt: skip


def parsed(command: tuple[str, ...]) -> dict[str, object]:
    """Flags of `vllm serve`, underscores as dashes, with their values read."""
    words, found = list(command[3:]), dict[str, object]()
    while words:
        name = words.pop(0).removeprefix("--").replace("_", "-")
        value = None if not words or words[0].startswith("--") else words.pop(0)
        try:
            found[name] = value if value is None else json.loads(value)
        except ValueError:
            found[name] = value
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda e: f"{e.model}-{bool(e.ranks_of)}")
def test_a_command_of_the_guide(example: Guided, tmp_path: Path) -> None:
    if example.ranks_of:
        folder = write_by_ranks(tmp_path / "m", example.model, example.tp, example.ranks_of)
    else:
        folder = write_model(tmp_path / "m", example.model, dtype="I8", quantized="W8A8S")
    plan = make_plan(
        PlanRequest(folder, "310p", max_model_len=example.length, concurrency=example.concurrency,
                    extra=OWN)
    )  # fmt: skip
    assert plan.fits
    found = parsed(plan.commands[0])
    wanted = {**COMMON, **example.flags}
    assert {name: found.get(name, "absent") for name in wanted} == wanted
    assert found.keys() - wanted.keys() == example.more
    assert shlex.split(plan.command()) == list(plan.commands[0])
    devices = {setting.name: setting.value for setting in plan.environment}
    assert devices == {"ASCEND_RT_VISIBLE_DEVICES": ",".join(map(str, range(example.tp)))}


def test_qwen3_32b_on_four_cards_captures_two_sizes(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "m", "Qwen3-32B", dtype="I8", quantized="W8A8")
    plan = make_plan(PlanRequest(folder, "310p", cards=4))
    assert plan.layout.tp == 4
    assert plan.graphs.sizes == (16, 32)
    one = make_plan(PlanRequest(folder, "310p", tp=1, card_memory=80 * GIB))
    assert one.graphs.sizes == (1, 2, 4, 8, 16, 32)


def test_the_recipe_that_compresses_is_the_guides(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "Qwen3-8B-w8a8s", "Qwen3-8B", dtype="I8", quantized="W8A8S")
    plan = make_plan(PlanRequest(folder, "310p", max_model_len=16384))
    recipe = next(r for r in plan.recipes if r.id == "compress")
    assert recipe.lines[0] == "export PYTORCH_NPU_ALLOC_CONF=max_split_size_mb:256"
    command = " ".join(line.removesuffix("\\") for line in recipe.lines[1:])
    assert parsed(("", *shlex.split(command))) == {
        "model": str(folder), "tensor-parallel-size": 1, "output": f"{folder}c-tp1",
        "enable-compress": None, "compress-process-num": 4, "enforce-eager": None,
        "dtype": "float16", "quantization": "ascend", "max-model-len": 10240,
    }  # fmt: skip


def test_the_container_is_the_guides(tmp_path: Path) -> None:
    folder = write_by_ranks(tmp_path / "m", "Qwen3-32B", 4, 7 * GIB)
    plan = make_plan(PlanRequest(folder, "310p", vllm_ascend="0.18.0"))
    lines = next(r for r in plan.recipes if r.id == "docker").lines
    words = shlex.split(" ".join(line.removesuffix("\\") for line in lines))
    assert words[-2:] == ["quay.io/ascend/vllm-ascend:v0.18.0-310p", "bash"]
    assert "--shm-size=10g" in words
    assert words[words.index("-p") + 1] == "8000:8000"
    devices = [word for word in words if word.startswith("/dev/")]
    assert devices == [*(f"/dev/davinci{n}" for n in range(4)), "/dev/davinci_manager",
                       "/dev/devmm_svm", "/dev/hisi_hdc"]  # fmt: skip
    assert "/usr/local/Ascend/driver/lib64/:/usr/local/Ascend/driver/lib64/" in words
    assert not any("privileged" in word for word in words)
