# SPDX-License-Identifier: Apache-2.0
"""The plugin's entry points: light, idempotent, out of vllm-ascend's way."""

import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from vllm_ascend_bringup.recipes.sources import find_recipes


def run(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run ``code`` in a fresh interpreter."""
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip


def succeed(code: str, **environment: str) -> str:
    """The standard output of ``code``, which must succeed."""
    done = run(code, **environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "module",
    ["vllm_ascend_bringup", "vllm_ascend_bringup.plugin", "vllm_ascend_bringup.checkpoint",
     "vllm_ascend_bringup.formats.pairing", "vllm_ascend_bringup.tools.checkpoint_report",
     "vllm_ascend_bringup.tools.cli"],
)  # fmt: skip
def test_importing_loads_neither_torch_nor_vllm(module: str) -> None:
    heavy = "{'torch', 'vllm', 'numba', 'transformers'}"
    assert succeed(f"import sys, {module}; print({heavy} & set(sys.modules))") == "set()"


@pytest.mark.parametrize("group", ["vllm.general_plugins", "vllm.platform_plugins"])
def test_entry_points_are_installed(group: str) -> None:
    assert "ascend_bringup" in {plugin.name for plugin in entry_points(group=group)}


def test_register_twice_changes_nothing_and_does_not_import_numba() -> None:
    code = """
import sys
from vllm_ascend_bringup.plugin import register
first = register()
from vllm.model_executor import model_loader
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
before = dict(model_loader._LOAD_FORMAT_TO_MODEL_LOADER), list(QUANTIZATION_METHODS)
second = register()
assert before == (dict(model_loader._LOAD_FORMAT_TO_MODEL_LOADER), list(QUANTIZATION_METHODS))
assert QUANTIZATION_METHODS.count("ascend_dequant") == 1
assert "numba" not in sys.modules
print(first, "|", second)
"""
    assert succeed(code).splitlines()[-1] == (
        "registered quantization method ascend_dequant, its loader and "
        f"{len(find_recipes(None))} recipes | registered already"
    )


def test_never_registers_no_quantization_method() -> None:
    code = """
from vllm_ascend_bringup.plugin import register
print(register())
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
assert "ascend_dequant" not in QUANTIZATION_METHODS
"""
    out = succeed(code, VLLM_ASCEND_BRINGUP_DEQUANT="never")
    assert out.splitlines()[-1] == (
        f"registered {len(find_recipes(None))} recipes; VLLM_ASCEND_BRINGUP_DEQUANT=never"
    )


def test_bad_setting_stops_register_with_the_choices() -> None:
    done = run(
        "from vllm_ascend_bringup.plugin import register; register()",
        VLLM_ASCEND_BRINGUP_DEQUANT="sometimes",
    )
    assert done.returncode != 0
    assert "auto, always, never" in done.stderr.splitlines()[-1]


@pytest.fixture
def fake_site(tmp_path: Path) -> Path:
    """A folder in which a distribution with vllm-ascend's platform entry point is installed.

    Only its metadata matters here: nothing of it is imported.
    """
    (tmp_path / "vllm_ascend").mkdir()
    (tmp_path / "vllm_ascend" / "__init__.py").write_text("def register(): return 'x'\n")
    info = tmp_path / "vllm_ascend-0.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vllm-ascend\nVersion: 0.0\n")
    (info / "entry_points.txt").write_text(
        "[vllm.platform_plugins]\nascend = vllm_ascend:register\n"
    )
    return tmp_path


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, "None"),
        ("ascend,ascend_bringup", "None"),
        ("ascend_bringup", "vllm_ascend_bringup.npu_platform.BringupNPUPlatform"),
    ],
    ids=["no allowlist", "both allowed", "only ours allowed"],
)
def test_platform_leaves_room_for_vllm_ascend(
    fake_site: Path, allowed: str | None, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("VLLM_PLUGINS", raising=False)
    environment = {"PYTHONPATH": str(fake_site)}
    if allowed is not None:
        environment["VLLM_PLUGINS"] = allowed
    code = "from vllm_ascend_bringup.plugin import platform; print(platform())"
    assert succeed(code, **environment) == expected


def test_platform_without_vllm_ascend_is_vllms_choice() -> None:
    code = "from vllm_ascend_bringup.plugin import platform; print(platform())"
    assert succeed(code, VLLM_PLUGINS="ascend_bringup") == "None"
