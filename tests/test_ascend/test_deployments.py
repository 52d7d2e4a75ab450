# SPDX-License-Identifier: Apache-2.0
"""What plans are made from, against vllm-ascend's published source."""

import ast
import re
from pathlib import Path

import pytest
from ascend_source import MARKS

from vllm_ascend_bringup.hardware import DEPLOYMENTS, HCCL_BUFFER_MIB, HCCL_DP_BUFFER_MIB
from vllm_ascend_bringup.tools.plan.graphs import XLITE

pytestmark = MARKS

# Formats that only the 950 executes, caches, and what is not ModelSlim's.
_OTHERS = re.compile("MX|FP8|INT8_DYNAMIC|FAKQuant")


def registered(folder: Path) -> set[str]:
    """Types with @register_scheme for linear or MoE layers."""
    found = set()
    for file in folder.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "register_scheme":
                found.add(ast.literal_eval(node.args[0]))
    return found


@pytest.mark.parametrize(
    ("device", "folder"), [("a2", "quantization"), ("a3", "quantization"),
                           ("310p", "_310p/quantization")],
)  # fmt: skip
def test_types_of_modelslim_are_those_with_a_scheme(source: Path, device: str, folder: str) -> None:
    found = registered(source / "vllm_ascend" / folder / "methods")
    assert {kind for kind in found if not _OTHERS.search(kind)} == DEPLOYMENTS[device].modelslim


def test_xlite_has_adapters_for_these(source: Path) -> None:
    found = set()
    for node in ast.walk(ast.parse((source / "vllm_ascend/xlite/xlite.py").read_text())):
        target = node.targets[0] if isinstance(node, ast.Assign) else None
        if getattr(target, "id", "") == "_supported_architectures":
            assert isinstance(node, ast.Assign)
            found |= set(ast.literal_eval(node.value))
    assert found == XLITE


def test_buffers_of_communicators(source: Path) -> None:
    text = (source / "vllm_ascend/utils.py").read_text()
    assert f"_DEFAULT_BUFFER_SIZE = {HCCL_BUFFER_MIB}\n" in text
    assert f"_MIN_DP_BUFFER_SIZE = {HCCL_DP_BUFFER_MIB}\n" in text


def test_the_310p_offers_half_of_what_is_left(source: Path) -> None:
    text = (source / "vllm_ascend/_310p/worker_310p.py").read_text()
    assert f") // {DEPLOYMENTS['310p'].kv_divisor}\n" in text


def test_nothing_counts_streams_any_more(source: Path) -> None:
    assert "def update_aclgraph_sizes" not in (source / "vllm_ascend/utils.py").read_text()
