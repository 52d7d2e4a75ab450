# SPDX-License-Identifier: Apache-2.0
"""Putting the emulation in place of torch_npu, switching its version and chip, taking it away."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from emulation_kit import Install

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.emulation.schemas import schemas, versions
from vllm_ascend_bringup.hardware import CHIPS


def test_it_is_what_is_imported(torch_npu: Any) -> None:
    import torch_npu as imported

    assert imported is torch_npu
    assert imported.__version__ == "2.10.0.post4"
    assert torch.ops.npu.npu_rms_norm is imported.npu_rms_norm


@pytest.mark.parametrize("version", versions())
def test_a_version_has_its_operators_and_no_others(install: Install, version: str) -> None:
    torch_npu = install(version)
    own = {schema.path for schema in schemas(version)}
    for path in {schema.path for each in versions() for schema in schemas(each)}:
        owner, _, name = path.rpartition(".")
        assert hasattr(torch_npu.atb if owner else torch_npu, name) == (path in own), path


def test_modules_that_have_imported_it_see_another_version(install: Install) -> None:
    torch_npu = install("2.10.0")
    assert not hasattr(torch_npu, "_npu_flash_attention_v3")
    assert install("2.10.0.post4") is torch_npu
    assert hasattr(torch_npu, "_npu_flash_attention_v3")
    install("2.10.0")
    assert not hasattr(torch_npu, "_npu_flash_attention_v3")


def test_the_chip_is_the_one_asked_for(install: Install) -> None:
    for chip in CHIPS.values():
        npu = install(chip=chip.id).npu
        assert npu.get_soc_version() in chip.socs
        assert npu.get_device_name() == f"emulated {chip.title}"
        assert (npu.device_count(), npu.is_available(), torch.npu) == (1, True, npu)  # type: ignore[attr-defined]


def test_torch_is_as_it_was_afterwards(install: Install) -> None:
    before = torch.Tensor.pin_memory, torch.library.Library.impl
    install()
    pinned = torch.ones(2).pin_memory()
    assert torch.equal(pinned, torch.ones(2))
    assert torch.device("npu").type == "npu"
    emulation.remove()
    emulation.remove()
    assert (torch.Tensor.pin_memory, torch.library.Library.impl) == before
    assert "torch_npu" not in sys.modules
    assert not hasattr(torch, "npu")
    assert not hasattr(torch.ops.npu, "npu_rms_norm")


@pytest.mark.parametrize("namespace", ["vllm", "bringup_test"])
def test_operators_that_vllm_has_for_an_npu_run(install: Install, namespace: str) -> None:
    install()
    make: Any = torch.library.Library
    library = make(namespace, "FRAGMENT")
    library.define("bringup_test(Tensor x) -> Tensor")
    library.impl("bringup_test", lambda x: x + 1, dispatch_key="PrivateUse1")
    operator = getattr(torch.ops, namespace).bringup_test
    if namespace == "vllm":
        assert torch.equal(operator(torch.zeros(2)), torch.ones(2))
    else:
        with pytest.raises(NotImplementedError, match="'CPU' backend"):
            operator(torch.zeros(2))
    library._destroy()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"version": "2.11.0"}, r"torch_npu 2\.11\.0: expected one of 2\.9\.0, 2\.10\.0, "),
        ({"chip": "910"}, "chip '910': expected one of a2, a3, 310p, 950"),
    ],
)
def test_what_is_not_known(install: Install, arguments: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        install(**arguments)
    assert "torch_npu" not in sys.modules


def run(code: str, folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("imported", ["", "import torch_npu; "])
def test_a_real_torch_npu_is_left_alone(tmp_path: Path, imported: str) -> None:
    (tmp_path / "torch_npu.py").write_text("")
    done = run(
        f"{imported}from vllm_ascend_bringup import emulation; emulation.install()", tmp_path
    )
    assert done.stderr.splitlines()[-1].startswith("RuntimeError: torch_npu is installed")


def test_it_is_installed_when_torch_npu_is_imported(tmp_path: Path) -> None:
    (tmp_path / "vllm_ascend").mkdir()
    (tmp_path / "vllm_ascend" / "__init__.py").write_text("")
    (tmp_path / "vllm_ascend" / "_build_info.py").write_text("__device_type__ = 'A3'\n")
    code = """
import sys
from vllm_ascend_bringup import emulation
emulation.install_on_import()
assert "torch" not in sys.modules
import torch_npu
print(torch_npu.npu.get_device_name(), torch_npu.__version__ == emulation.VERSION)
assert emulation.install(chip="310p") is torch_npu
"""
    done = run(code, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "emulated Atlas A3 True"


def test_a_real_one_comes_before_the_hook(tmp_path: Path) -> None:
    (tmp_path / "torch_npu.py").write_text("real = True\n")
    code = """
from vllm_ascend_bringup import emulation
emulation.install_on_import()
import torch_npu
print(torch_npu.real)
"""
    assert run(code, tmp_path).stdout.strip() == "True"
