# SPDX-License-Identifier: Apache-2.0
"""The patches there are, against the installed vLLM, and how they are chosen."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import ABSENT, MATCHES, OTHER_VERSION
from vllm_ascend_bringup.tools.qk_norm.document import concerns

ROOT = Path(__file__).resolve().parents[1]


def test_every_patch_file_is_listed_and_says_why() -> None:
    files = {file.stem for file in (ROOT / "patches").glob("*.py")} - {"catalog"}
    used = {patch.replacement.partition(":")[0].rpartition(".")[2] for patch in PATCHES.values()}
    assert used == files
    for patch in PATCHES.values():
        assert patch.why
        assert patch.until
        assert patch.upstream.startswith("https://")


def test_the_document_lists_those_of_models() -> None:
    """It is made by `make qk-norm`."""
    written = (ROOT / "docs" / "qk-norm.md").read_text()
    for patch in filter(concerns, PATCHES.values()):
        assert f"| {patch.name} | {patch.attribute} | {patch.why} |" in written


def bringup(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name("bringup")), *arguments], capture_output=True,
        text=True, check=False, env={**os.environ, **environment},
    )  # fmt: skip


@pytest.mark.engine  # so that it runs on the oldest vLLM too
def test_the_installed_vllm_fits_all_patches_for_it() -> None:
    done = bringup("patches", "--check", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads(done.stdout)
    version = Version(content["installed"]["vllm"]).base_version
    expected = {
        name: (MATCHES if version in SpecifierSet(patch.versions) else OTHER_VERSION)
        if patch.package == "vllm"
        else ABSENT
        for name, patch in PATCHES.items()
    }
    assert {line["name"]: line["state"] for line in content["patches"]} == expected
    assert "olmoe matches" in bringup("patches").stdout


def test_check_fails_where_the_source_is_another(tmp_path: Path) -> None:
    models = tmp_path / "vllm" / "model_executor" / "models"
    models.mkdir(parents=True)
    (tmp_path / "vllm" / "__init__.py").touch()
    (tmp_path / "vllm" / "_version.py").write_text('version = "0.32.0"\n')
    (models / "registry.py").write_text("X = {}\n")
    for patch in PATCHES.values():
        file = tmp_path.joinpath(*patch.module.split(".")).with_suffix(".py")
        file.parent.mkdir(parents=True, exist_ok=True)
        first = patch.attribute.partition(".")[0]
        file.write_text(f"class {first}:\n    def forward_cpu(self):\n        pass\n")
    done = bringup("patches", "--check", PYTHONPATH=str(tmp_path))
    assert done.returncode == 10, done.stdout + done.stderr
    assert "olmoe changed" in done.stdout
    assert bringup("patches", PYTHONPATH=str(tmp_path)).returncode == 0


REFUSED = """
from dataclasses import replace
from vllm_ascend_bringup import patch_hooks
olmoe = replace(patch_hooks.PATCHES["olmoe"], fingerprints=frozenset({"0123456789abcdef"}))
patch_hooks.PATCHES = {"olmoe": olmoe}
patch_hooks.apply_patches(%r)
from vllm.model_executor.models.olmoe import OlmoeAttention, OlmoeDecoderLayer
assert OlmoeAttention.__module__ == OlmoeDecoderLayer.__module__
print("untouched")
"""


@pytest.mark.parametrize(("setting", "ends"), [("auto", 0), ("olmoe", 1)])
def test_changed_upstream_is_refused_with_both_fingerprints(setting: str, ends: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REFUSED % setting], capture_output=True, text=True, check=False,
    )  # fmt: skip
    output = done.stdout + done.stderr
    assert done.returncode == ends, output
    assert ("untouched" in output) is (ends == 0)
    assert "patch olmoe: vllm.model_executor.models.olmoe:OlmoeAttention is changed" in output
    (installed,) = PATCHES["olmoe"].fingerprints
    assert f"fingerprint {installed})" in output
    assert "fingerprint 0123456789abcdef, vllm >=0.27.1,<=0.32.0" in output


REGISTER = "from vllm_ascend_bringup.plugin import register; print(register())"


@pytest.mark.parametrize(
    ("setting", "last"), [("nonsense", "no patch is called nonsense"), ("off", ""), ("olmoe", "")]
)
def test_the_setting_reaches_the_plugin(setting: str, last: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", REGISTER], capture_output=True, text=True, check=False,
        env={**os.environ, "VLLM_ASCEND_BRINGUP_PATCHES": setting},
    )  # fmt: skip
    assert (done.returncode == 0) is (not last)
    assert last in done.stderr
