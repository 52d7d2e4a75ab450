# SPDX-License-Identifier: Apache-2.0
"""The packaged schemas of torch_npu: where they come from, and what computes fits all of them."""

import importlib
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from vllm_ascend_bringup.emulation.catalog import OPERATORS
from vllm_ascend_bringup.emulation.schemas import schemas, versions

REFERENCE = Path(__file__).resolve().parents[3] / "shared" / "reference" / "torch_npu_ops.json"


@pytest.mark.skipif(not REFERENCE.exists(), reason=f"no {REFERENCE.name} beside the checkout")
@pytest.mark.parametrize("version", versions())
def test_they_are_what_was_read_from_the_wheels(version: str) -> None:
    read = json.loads(REFERENCE.read_text())
    texts = {row[version] for table in ("ops", "overloads") for row in read[table].values()}
    texts |= {
        variant["schema"]
        for row in read["related_ops"].values()
        for variant in row["variants"]
        if version in variant["versions"]
    }
    assert {schema.text.partition("::")[2] for schema in schemas(version)} == texts - {None}
    places = {
        (row["namespace"], row["python"])
        for table in ("info", "related_ops")
        for row in read[table].values()
    }
    for schema in schemas(version):
        assert (schema.namespace, f"torch_npu.{schema.path}") in places


@pytest.mark.parametrize("version", versions())
def test_torch_reads_them_and_names_are_unique(version: str) -> None:
    names = [torch._C.parse_schema(schema.text).name for schema in schemas(version)]
    assert [name.partition("::")[0] for name in names] == [s.namespace for s in schemas(version)]
    assert len({schema.name for schema in schemas(version)}) == len(names)


def test_every_emulated_operator_is_one_of_torch_npu() -> None:
    assert set(OPERATORS) <= {schema.name for schema in schemas(versions()[-1])}


@pytest.mark.parametrize("version", versions())
@pytest.mark.parametrize("operator", OPERATORS)
def test_what_computes_takes_what_the_schema_has(operator: str, version: str) -> None:
    found = [schema for schema in schemas(version) if schema.name == operator]
    module, _, name = OPERATORS[operator].partition(":")
    parameters = dict(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    refuses_others = parameters.pop("others", None) is not None
    for schema in found:
        arguments = torch._C.parse_schema(schema.text).arguments
        # Torch passes what has a position by position.
        positional = [a.name for a in arguments if not a.kwarg_only]
        assert positional == list(parameters)[: len(positional)]
        others = [a for a in arguments if a.name not in parameters]
        assert all(a.kwarg_only and a.has_default_value() for a in others)
        assert bool(others) == refuses_others
        for argument in arguments:
            if argument in others:
                continue
            assert default(argument) == parameters[argument.name].default, argument.name
        missing = set(parameters) - {argument.name for argument in arguments}
        assert all(parameters[name].default is not inspect.Parameter.empty for name in missing)


def default(argument: Any) -> Any:
    if not argument.has_default_value():
        return inspect.Parameter.empty
    return argument.default_value
