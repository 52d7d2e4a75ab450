# SPDX-License-Identifier: Apache-2.0
"""A LLaVA that transformers 5 saved: stock vLLM does not load it, with its recipe it answers."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_llava
from engine_kit import EngineError, run_script

from vllm_ascend_bringup.tools.audit.suggestion import suggest

pytestmark = pytest.mark.engine
# Between two float32 computations in another order; another image makes more than 0.1.
TOLERANCE = 5e-4
_SUPPORT = Path(tiny_llava.__file__).parent
_ROOT = Path(__file__).resolve().parents[2]
# torchvision in a folder of its own (tools/cpu_setup.py), and what lets it be imported.
_PATHS = (_ROOT / "tools" / "beside_cpu_torch", Path(sys.prefix) / "multimodal", _SUPPORT)


@pytest.fixture(scope="module", autouse=True)
def torchvision() -> Any:
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTHONPATH", os.pathsep.join(map(str, _PATHS)))
    yield
    patch.undo()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[list[float]]]:
    folder = tmp_path_factory.mktemp("llava")
    return folder, run("write", folder)


def run(do: str, folder: Path, **options: Any) -> Any:
    request = {"do": do, "folder": str(folder)}
    return run_script(Path(tiny_llava.__file__), request, **options)[0]


def assert_same(found: list[dict[str, float]], expected: list[list[float]]) -> None:
    for step, row in zip(found, expected, strict=True):
        assert max(step.values()) == pytest.approx(max(row), abs=TOLERANCE)
        for token, logprob in step.items():
            assert logprob == pytest.approx(row[int(token)], abs=TOLERANCE)


def test_answers_a_question_about_an_image(checkpoint: tuple[Path, list[list[float]]]) -> None:
    folder, expected = checkpoint
    assert_same(run("answer", folder), expected)


def test_stock_vllm_does_not_load_it(checkpoint: tuple[Path, list[list[float]]]) -> None:
    """The day it does, the recipe can go."""
    with pytest.raises(EngineError, match=r"vision_tower"):
        run("answer", checkpoint[0], plugin=False)


def test_suggest_finds_the_rule(
    checkpoint: tuple[Path, list[list[float]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, expected = checkpoint
    bare, draft = tmp_path / "bare.toml", tmp_path / "draft.toml"
    bare.write_text('architecture = "LlavaForConditionalGeneration"\n')
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_RECIPES", str(bare))
    found = suggest(folder, draft)
    assert not found.report.missing
    assert not found.report.conflicts
    # vLLM builds no more of the tower than LLaVA looks at; that this is meant, no name tells.
    assert all("post_layernorm" in finding.names for finding in found.report.unexpected)
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_RECIPES", str(draft))
    assert_same(run("answer", folder), expected)
