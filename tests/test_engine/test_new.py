# SPDX-License-Identifier: Apache-2.0
"""The README's chapter on bringing up a model, followed step by step."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import acme
import pytest
from engine_kit import prompts, run_engine

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]
_BIN = Path(sys.executable).parent
_RECIPE = "acme_for_causal_lm.toml"


def run(folder: Path, *command: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(_BIN / command[0]), *command[1:]], cwd=folder, capture_output=True, text=True,
        check=False, env={**os.environ, "COLUMNS": "300"},
    )  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bring-up")
    acme.write(folder / "acme-model")
    return folder


@pytest.fixture(scope="module")
def drafted(folder: Path) -> str:
    done = run(folder, "bringup", "new", "AcmeForCausalLM", "--from-model", "acme-model")
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


@pytest.mark.parametrize("readme", ["README.md", "README.zh.md"])
def test_readme_shows_what_happens(folder: Path, drafted: str, readme: str) -> None:
    text = (ROOT / readme).read_text()
    assert textwrap.indent((folder / _RECIPE).read_text().rstrip(), "   ") in text
    shown = [line.strip() for line in text.splitlines()]
    for line in drafted.splitlines():
        if line.startswith(("matched:", "every tensor")):
            assert line in shown
    inspected = run(folder, "bringup", "inspect", "acme-model").stdout.splitlines()
    (note,) = (line for line in inspected if line.startswith("note: "))
    assert note in shown


def test_drafted_test_passes(folder: Path, drafted: str) -> None:
    done = run(folder, "pytest", "-q", "-p", "no:cacheprovider", "test_acme_for_causal_lm.py")
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_drafted_test_fails_with_another_recipe(folder: Path, drafted: str) -> None:
    text = (folder / _RECIPE).read_text()
    other = folder / "other"
    other.mkdir()
    (other / _RECIPE).write_text(text.replace(".ln_1.", ".ln_3."))
    code = (folder / "test_acme_for_causal_lm.py").read_text().replace("[1, 2]", "[1]")
    (other / "test_acme_for_causal_lm.py").write_text(code)
    done = run(other, "pytest", "-q", "-p", "no:cacheprovider", "test_acme_for_causal_lm.py")
    assert "1 failed" in done.stdout, done.stdout + done.stderr


def test_serves_as_the_model_it_is(folder: Path, drafted: str) -> None:
    given = prompts(400, 4)
    own = {"VLLM_ASCEND_BRINGUP_RECIPES": str(folder / _RECIPE)}
    found = run_engine(folder / "acme-model", given, tokens=8, environment=own)
    demo = run_engine(ROOT / "tools" / "demo" / "checkpoint", given, tokens=8)
    assert (found.tokens, found.logprobs) == (demo.tokens, demo.logprobs)
    assert found.decoded == demo.decoded


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("OtherForCausalLM", "--from-model", "acme-model"), "is a checkpoint of AcmeForCausalLM"),
        (("AcmeForCausalLM", "--from-model", "acme-model"), "exists"),
        (("AcmeForCausalLM", "--from-model", "nowhere"), "is not a directory"),
    ],
    ids=["other-architecture", "file-exists", "no-checkpoint"],
)
def test_refused(folder: Path, drafted: str, arguments: tuple[str, ...], message: str) -> None:
    before = sorted(folder.iterdir())
    done = run(folder, "bringup", "new", *arguments)
    assert done.returncode in (4, 9)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(folder.iterdir()) == before
