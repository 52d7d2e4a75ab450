# SPDX-License-Identifier: Apache-2.0
"""Catalogs and files agree: every file is listed, every id unique, every target importable."""

import importlib
from pathlib import Path

import pytest

from vllm_ascend_bringup.formats.base import FP8_CODES
from vllm_ascend_bringup.formats.catalog import FORMATS
from vllm_ascend_bringup.formats.families.catalog import FAMILIES
from vllm_ascend_bringup.kernels import fp8_dequant
from vllm_ascend_bringup.kernels.catalog import KERNELS

ROOT = Path(__file__).resolve().parents[1]
FORMAT_FILES = sorted(
    file.stem
    for file in (ROOT / "vllm_ascend_bringup" / "formats").glob("*.py")
    # What all formats share.
    if file.stem not in ("__init__", "base", "catalog", "naming", "pairing", "schemes")
)
FAMILY_FILES = sorted(
    file.stem
    for file in (ROOT / "vllm_ascend_bringup" / "formats" / "families").glob("*.py")
    if file.stem not in ("__init__", "base", "catalog")
)
KERNEL_FOLDERS = sorted(file.parent.name for file in (ROOT / "kernels").glob("*/__init__.py"))
TARGETS = [
    pytest.param(target, id=f"{kernel}-{name}")
    for kernel, implementations in KERNELS.items()
    for name, target in implementations.items()
]


def test_every_format_file_is_listed_under_its_own_name() -> None:
    assert {
        id_: type(format_).__module__.rpartition(".")[2] for id_, format_ in FORMATS.items()
    } == {stem: stem for stem in FORMAT_FILES}


def test_format_ids_and_titles_are_unique() -> None:
    ids = [format_.id for format_ in FORMATS.values()]
    assert ids == list(FORMATS)
    assert len({format_.title for format_ in FORMATS.values()}) == len(ids) > 0
    # A dict drops a repeated id in silence; the source does not.
    source = (ROOT / "vllm_ascend_bringup" / "formats" / "catalog.py").read_text()
    assert source.count("from vllm_ascend_bringup.formats.") - 1 == len(FORMATS)


@pytest.mark.parametrize("stem", FORMAT_FILES)
def test_every_format_has_a_test_file(stem: str) -> None:
    assert (ROOT / "tests" / "test_formats" / f"test_{stem}.py").is_file()


def test_every_family_file_is_listed_under_its_own_name() -> None:
    assert {name: read.__module__.rpartition(".")[2] for name, read in FAMILIES.items()} == {
        stem: stem for stem in FAMILY_FILES
    }
    assert all(read.__name__ == "read" for read in FAMILIES.values())


def test_every_kernel_folder_is_listed() -> None:
    assert sorted(KERNELS) == KERNEL_FOLDERS
    assert KERNEL_FOLDERS


@pytest.mark.parametrize("kernel", KERNEL_FOLDERS)
def test_every_kernel_has_a_test_file_and_its_reference_last(kernel: str) -> None:
    assert (ROOT / "tests" / "test_kernels" / f"test_{kernel}.py").is_file()
    assert list(KERNELS[kernel])[-1] == "reference"


@pytest.mark.parametrize("kernel", KERNEL_FOLDERS)
def test_every_implementation_file_of_a_kernel_is_listed(kernel: str) -> None:
    files = {f.stem for f in (ROOT / "kernels" / kernel).glob("*.py")} - {"__init__"}
    listed = {target.partition(":")[0].rpartition(".")[2] for target in KERNELS[kernel].values()}
    assert files == listed


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_imports_and_can_be_asked(target: str) -> None:
    module, _, attribute = target.partition(":")
    loaded = importlib.import_module(module)
    assert callable(getattr(loaded, attribute))
    assert callable(loaded.verify)


def test_the_kernel_knows_every_encoding_a_header_can_name() -> None:
    assert set(FP8_CODES.values()) == set(fp8_dequant.CODE_FORMATS)
