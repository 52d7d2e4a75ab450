# SPDX-License-Identifier: Apache-2.0
"""Operators of torch_npu: ours are called as its schemas say, and their lack is refused by name."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from vllm_ascend_bringup import operators
from vllm_ascend_bringup.emulation.schemas import Schema, schemas
from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.operators import COMPRESSED_MASKS, check_operators, needed_operators
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[1]
SUPPORTED = ("2.9.0", "2.10.0", "2.13.0")
# What is not an operator, and is in every version.
OTHER_NAMES = {"__version__"}


def uses(tree: ast.AST) -> Iterator[tuple[str, ast.Call | None, ast.AST]]:
    """Each ``torch_npu.<name>`` of a module, with the call of it if it is called at once."""
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch_npu"):
            raise AssertionError(f"line {node.lineno}: import torch_npu, so that uses can be seen")
        if isinstance(node, ast.Attribute) and id(node) not in inner:
            path = ast.unparse(node)
            if path.startswith("torch_npu."):
                yield path.removeprefix("torch_npu."), calls.get(id(node)), node


def fits(call: ast.Call, schema: str) -> bool:
    """Whether the names and number of a call's arguments are those of a schema."""
    arguments = torch._C.parse_schema(schema).arguments
    positional = [argument.name for argument in arguments if not argument.kwarg_only]
    given = positional[: len(call.args)] + [str(word.arg) for word in call.keywords]
    needed = {argument.name for argument in arguments if not argument.has_default_value()}
    return (
        len(call.args) <= len(positional)
        and len(set(given)) == len(given)
        and needed <= set(given) <= {argument.name for argument in arguments}
    )


def names(schema: Schema) -> set[str]:
    """Below torch_npu: the operator, and this overload of it."""
    owner, dot, _ = schema.path.rpartition(".")
    return {schema.path, f"{owner}{dot}{schema.name}"}


def wrong_uses(source: str, version: str) -> list[str]:
    wrong = []
    for path, call, node in uses(ast.parse(source)):
        found = [schema.text for schema in schemas(version) if path in names(schema)]
        right = call is not None and any(fits(call, schema) for schema in found)
        if path not in OTHER_NAMES and not right:
            wrong.append(ast.unparse(call or node))
    return wrong


def our_files() -> list[Path]:
    folders = ("vllm_ascend_bringup", "kernels", "patches", "tools")
    return [file for folder in folders for file in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("version", SUPPORTED)
def test_our_calls_fit_the_schemas(version: str) -> None:
    there = {schema.path for schema in schemas(version)}
    # Looked for before they are called.
    absent = tuple(f"torch_npu.{name}(" for name in COMPRESSED_MASKS if name not in there)
    found = {
        file: [use for use in wrong_uses(file.read_text(), version) if not use.startswith(absent)]
        for file in our_files()
    }
    assert {file: wrong for file, wrong in found.items() if wrong} == {}


def test_what_we_call_is_asked_for_at_the_start() -> None:
    called = {path for file in our_files() for path, *_ in uses(ast.parse(file.read_text()))}
    needed = {name for chip in CHIPS.values() for name in needed_operators(chip)}
    assert called - OTHER_NAMES - set(COMPRESSED_MASKS) <= needed


@pytest.mark.parametrize(
    ("call", "right"),
    [
        ("npu_rms_norm(x, w)", True),
        ("npu_rms_norm(x, gamma=w, epsilon=1e-6)", True),
        ("npu_rms_norm(x, w, 1e-6, 1)", False),
        ("npu_rms_norm(x)", False),
        ("npu_format_cast(x, 29)", True),
        ("npu_format_cast.Tensor(x, w)", True),
        ("npu_format_cast.Tensor(x, 29, 1)", False),
        ("npu_rms_norm(x, w, eps=1e-6)", False),
        ("npu_rms_norm(x, w, gamma=w)", False),
        ("npu_no_such_norm(x, w)", False),
        ("atb.npu_fused_add_topk_div(x, w)", True),
        ("npu_fused_add_topk_div(x, w)", False),
        ("npu_swiglu", False),  # what is not called at once cannot be compared
    ],
)
def test_the_comparison_tells_right_from_wrong(call: str, right: bool) -> None:
    assert (wrong_uses(f"def f(x, w):\n    return torch_npu.{call}\n", "2.13.0") == []) == right


def test_the_comparison_is_by_version() -> None:
    call = "torch_npu._npu_flash_attention_v3(q, k, v, m, s, 1.0, 1, 1, out=o)"
    assert wrong_uses(call, "2.10.0") == [call]
    assert wrong_uses(call, "2.10.0.post4") == wrong_uses(call, "2.13.0") == []


def test_an_import_that_hides_calls_is_refused() -> None:
    with pytest.raises(AssertionError, match="line 1: import torch_npu"):
        list(uses(ast.parse("from torch_npu import npu_rms_norm")))


@pytest.mark.parametrize("version", SUPPORTED)
def test_what_we_need_exists(version: str) -> None:
    paths = {schema.path for schema in schemas(version)}
    for chip in CHIPS.values():
        assert set(needed_operators(chip)) <= paths
    assert needed_operators(CHIPS["310p"])


@pytest.mark.parametrize("lacking", needed_operators(CHIPS["310p"]))
def test_what_is_lacking_is_refused_by_name(
    torch_npu: Any, lacking: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "installed_chip", lambda: CHIPS["310p"])
    check_operators()
    monkeypatch.delattr(torch_npu, lacking)
    expected = rf"^torch_npu 2\.10\.0\.post4 lacks {lacking}, needed on Ascend 310P\. Expected: "
    with pytest.raises(SettingsError, match=expected):
        check_operators()
    monkeypatch.setattr(operators, "installed_chip", lambda: CHIPS["a2"])
    check_operators()


def test_nothing_is_imported_off_an_npu(tmp_path: Path) -> None:
    (tmp_path / "torch_npu.py").write_text("raise OSError('no NPU')\n")
    code = "from vllm_ascend_bringup.operators import COMPRESSED_MASKS, check_operators as c; c()"
    subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True,
        env={**os.environ, **CPU_ENVIRONMENT},
    )  # fmt: skip
