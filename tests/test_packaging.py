# SPDX-License-Identifier: Apache-2.0
"""What is in the wheel, and that the three folders never become top-level packages."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("kernels", "patches", "tools")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """File names in a wheel built from the tracked files, as a user's pip would build it."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    tracked = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, check=True,
        capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    for name in tracked:
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_symlink():
            target.symlink_to((ROOT / name).readlink())
        elif (ROOT / name).is_file():
            target.write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(out), "."]
    subprocess.run(command, cwd=source, check=True)
    (built,) = out.glob("*.whl")
    return zipfile.ZipFile(built).namelist()


def test_wheel_has_one_top_level_package(wheel: list[str]) -> None:
    tops = {name.split("/")[0] for name in wheel}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"vllm_ascend_bringup"}


def test_wheel_has_every_module_and_data_file(wheel: list[str]) -> None:
    expected = {
        f"vllm_ascend_bringup/{file.relative_to(ROOT)}"
        for folder in ("kernels", "tools")
        for file in (ROOT / folder).rglob("*")
        if file.suffix in {".py", ".json", ".safetensors", ".jinja"}
    } | {
        str(file.relative_to(ROOT))
        for file in (ROOT / "vllm_ascend_bringup").rglob("*.py")
    }  # fmt: skip
    assert "vllm_ascend_bringup/tools/demo/checkpoint/config.json" in expected
    assert expected <= set(wheel), sorted(expected - set(wheel))
    assert {"vllm_ascend_bringup/py.typed", "vllm_ascend_bringup/emulation/schemas.json"} <= set(
        wheel
    )


def test_wheel_registers_both_entry_points(wheel: list[str]) -> None:
    assert any(name.endswith(".dist-info/entry_points.txt") for name in wheel)


@pytest.mark.parametrize("folder", FOLDERS)
def test_folder_is_a_symlink_without_init(folder: str) -> None:
    link = ROOT / "vllm_ascend_bringup" / folder
    assert link.is_symlink(), f"{link} must be a symlink (core.symlinks=false checkout?)"
    assert link.resolve() == ROOT / folder
    assert not (ROOT / folder / "__init__.py").exists()


def test_no_init_below_tests() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_bare_kernels_is_never_our_package() -> None:
    # transformers imports a package named "kernels"; from the checkout it must not get ours.
    code = "import importlib.util as u; s = u.find_spec('kernels'); print(s and s.origin)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == "None"


def test_torch_and_vllm_are_not_dependencies() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = text.partition("\ndependencies = ")[2].partition("]")[0]
    assert "typer" in dependencies
    assert "torch" not in dependencies
    assert "vllm" not in dependencies
