# SPDX-License-Identifier: Apache-2.0
"""Rules about the directory of a checkpoint, and how it is read."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from doctor_kit import found, severities

from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Package, Request, Unknown
from vllm_ascend_bringup.tools.doctor.model_files import read_model

NOBODY = 65534


def write(folder: Path, files: dict[str, int], **config: Any) -> ModelFiles:
    """A directory with files of these sizes and a config, as the doctor reads it."""
    for name, size in files.items():
        (folder / name).write_bytes(b"\0" * size)
    if config:
        (folder / "config.json").write_text(json.dumps(config))
    read = read_model(str(folder))
    assert isinstance(read, ModelFiles)
    return read


def ranks(*numbers: int) -> dict[str, int]:
    return {f"model-rank-{n}-part-{p}.safetensors": 8 for n in numbers for p in (0, 1)}


def test_the_demo_checkpoint() -> None:
    model = read_model(str(CHECKPOINT))
    assert isinstance(model, ModelFiles)
    assert model.weights == sum(f.stat().st_size for f in CHECKPOINT.glob("*.safetensors"))
    assert model.has_config
    assert (model.closed, model.ranks, model.quantization, model.audio) == ((), 0, None, False)


def test_one_kind_of_weights_is_counted(tmp_path: Path) -> None:
    files = {"model.safetensors": 100, "pytorch_model.bin": 90, "consolidated.safetensors": 100}
    assert write(tmp_path, files).weights == 100
    assert write(tmp_path / ".", {"model.safetensors": 0}).weights == 0


@pytest.mark.parametrize("model", [None, "Qwen/Qwen3-8B", "/nowhere/at/all"])
def test_what_is_no_directory_is_unknown(model: "str | None") -> None:
    assert isinstance(read_model(model), Unknown)


def test_values_that_are_no_strings(tmp_path: Path) -> None:
    (tmp_path / "quant_model_description.json").write_text('{"model_quant_type": 8}')
    model = write(tmp_path, {}, architectures="X", transformers_version=5)
    assert (model.quantization, model.transformers, model.experts) == (None, None, 0)
    (tmp_path / "config.json").write_text("[]")
    assert not write(tmp_path, {}).has_config
    assert isinstance(read_model(str(tmp_path / "config.json")), Unknown)


def test_model_files(tmp_path: Path) -> None:
    assert severities("model-files", model=write(tmp_path, {})) == ["error", "error"]
    (tmp_path / "config.json").write_text("{")
    assert severities("model-files", model=write(tmp_path, {"a.safetensors": 8})) == ["error"]
    good = write(tmp_path, {}, architectures=["X"])
    assert severities("model-files", model=good) == []


@pytest.mark.parametrize(
    ("saved", "quantization", "tp", "expected"),
    [
        ((), None, 4, []), ((), "W8A8", 4, []), ((), "W8A8SC", 4, ["error"]),
        ((0, 1, 2, 3), "W8A8SC", 4, []), ((0, 1, 2, 3), "W8A8SC", 2, ["error"]),
        ((0, 1, 2, 3), "W8A8SC", 8, ["error"]), ((0,), "W8A8SC", 1, []),
        ((0, 1, 3), "W8A8SC", 4, ["error"]), ((0, 1), None, 1, ["error"]),
    ],
)  # fmt: skip
def test_w8a8sc_tp(
    tmp_path: Path,
    saved: tuple[int, ...],
    quantization: "str | None",
    tp: int,
    expected: list[str],
) -> None:
    if quantization:
        description = {"model_quant_type": quantization, "version": "1.0.0"}
        (tmp_path / "quant_model_description.json").write_text(json.dumps(description))
    model = write(tmp_path, ranks(*saved))
    assert severities("w8a8sc-tp", model=model, request=Request(tp=tp)) == expected


def test_a_tp8_checkpoint_at_tp4_is_named_as_such(tmp_path: Path) -> None:
    model = write(tmp_path, ranks(*range(8)))
    text = found("w8a8sc-tp", model=model, request=Request(tp=4))
    assert text == "ranks that the shards were saved for: 8 / 4, the tensor-parallel size"


def test_shards_of_pipeline_stages_count_tensor_ranks(tmp_path: Path) -> None:
    names = [f"model-pp-{p}-tp-{t}-part-0.safetensors" for p in (0, 1) for t in (0, 1, 2)]
    assert write(tmp_path, dict.fromkeys(names, 8)).ranks == 3


def test_modes_count_for_mindie_only(tmp_path: Path) -> None:
    model = write(tmp_path, {"tokenizer.json": 2, "a.safetensors": 8}, architectures=["X"])
    mindie = {"MINDIE_LLM_HOME_PATH": "/usr/local/Ascend/mindie/latest/mindie-llm"}
    for mode, expected in ((0o644, ["warning"]), (0o640, []), (0o600, []), (0o660, ["warning"])):
        for name in ("tokenizer.json", "config.json"):
            (tmp_path / name).chmod(mode)
        model = write(tmp_path, {})
        assert severities("model-perms", model=model, environ=mindie) == expected
        assert severities("model-perms", model=model) == []
    assert "tokenizer.json: 0660 / 0640 for MindIE" in found(
        "model-perms", model=model, environ=mindie
    )


def test_files_that_another_user_may_not_read() -> None:
    if os.geteuid() != 0:
        pytest.skip("changes its user, for which it has to be root")
    code = (
        "import os, sys\n"
        "from vllm_ascend_bringup.tools.doctor.model_files import read_model\n"
        f"os.setgid({NOBODY}); os.setgroups([]); os.setuid({NOBODY})\n"
        "print(read_model(sys.argv[1]).closed)\n"
    )
    with tempfile.TemporaryDirectory() as name:  # pytest's own are closed to other users
        folder = Path(name)
        folder.chmod(0o755)
        write(folder, {"a.safetensors": 8, "b.safetensors": 8}, architectures=["X"])
        (folder / "b.safetensors").chmod(0o600)
        done = subprocess.run(
            [sys.executable, "-c", code, name], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "('b.safetensors',)"


def test_closed_files_are_an_error(tmp_path: Path) -> None:
    model = ModelFiles("/m", 8, True, ("b.safetensors",), {}, 0, (), None, 0, False, None)
    assert severities("model-perms", model=model) == ["error"]
    assert "b.safetensors" in found("model-perms", model=model)


@pytest.mark.parametrize(
    ("wrote", "installed", "expected"),
    [
        ("5.5.4", "5.5.4", []), ("5.5.5", "5.5.4", ["note"]), ("5.5.3", "5.5.4", []),
        (None, "5.5.4", []), ("main", "5.5.4", []),
    ],
)  # fmt: skip
def test_transformers_version(
    tmp_path: Path, wrote: "str | None", installed: str, expected: list[str]
) -> None:
    model = write(tmp_path, {}, architectures=["X"], transformers_version=wrote)
    packages = {"transformers": Package("transformers", installed)}
    assert severities("transformers-version", model=model, packages=packages) == expected
    assert severities("transformers-version", model=model, packages={}) == []


def test_audio_dep(tmp_path: Path) -> None:
    sound = write(tmp_path, {}, architectures=["X"], audio_config={"d_model": 8})
    librosa = {"librosa": Package("librosa", "0.11.0")}
    assert severities("audio-dep", model=sound, packages={}) == ["warning"]
    assert severities("audio-dep", model=sound, packages=librosa) == []
    text = write(tmp_path, {}, architectures=["X"], vision_config={"depth": 8})
    assert severities("audio-dep", model=text, packages={}) == []
