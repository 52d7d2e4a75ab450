# SPDX-License-Identifier: Apache-2.0
"""What we assume of vllm-ascend, checked against its published source.

vllm-ascend cannot be imported without an NPU's libraries, so names are looked up in its syntax
trees, and functions that need nothing of torch_npu are executed from its source as they are.
"""

import ast
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_ascend_bringup import ascend_layers
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / ".vllm-ascend").glob("*"))

pytestmark = [
    pytest.mark.ascend,
    pytest.mark.skipif(not SOURCES, reason="no vllm-ascend source; `make test-ascend` fetches it"),
]


@pytest.fixture(params=SOURCES, ids=lambda folder: folder.name)
def source(request: pytest.FixtureRequest) -> Path:
    """The folder that holds one version's ``vllm_ascend``."""
    folder: Path = request.param
    return folder


def tree(source: Path, module: str) -> ast.Module | None:
    """The syntax tree of a module of vllm-ascend, or None if this version has no such module."""
    file = source / Path(*module.split(".")).with_suffix(".py")
    return ast.parse(file.read_text()) if file.exists() else None


def defined(source: Path, target: str) -> bool:
    """Whether ``module:name`` is a class or function of this version."""
    module, _, name = target.partition(":")
    parsed = tree(source, module)
    nodes = parsed.body if parsed else []
    return any(getattr(node, "name", None) == name for node in nodes)


@pytest.mark.parametrize(
    "targets",
    [ascend_layers.LINEAR_METHODS, ascend_layers.MOE_METHODS, ascend_layers.MOE_METHODS_310P,
     ("vllm_ascend.platform:NPUPlatform",), ("vllm_ascend.utils:is_310p",)],
    ids=["linear", "moe", "moe of the 310P", "platform", "is_310p"],
)  # fmt: skip
def test_what_we_import_lazily_exists(source: Path, targets: tuple[str, ...]) -> None:
    assert any(defined(source, target) for target in targets), targets


def test_its_platform_plugin_is_called_ascend(source: Path) -> None:
    (entry_points,) = source.glob("*.dist-info/entry_points.txt")
    assert "ascend = vllm_ascend:register" in entry_points.read_text()


def function(source: Path, module: str, names: dict[str, Any], *wanted: str) -> dict[str, Any]:
    """Execute functions of vllm-ascend from their source, with ``names`` as module globals."""
    parsed = tree(source, module)
    assert parsed is not None
    nodes = [node for node in parsed.body if getattr(node, "name", None) in wanted]
    assert len(nodes) == len(wanted)
    scope = dict(names)
    exec(compile(ast.Module(nodes, []), module, "exec"), scope)
    return scope


@pytest.fixture(scope="module")
def engine_config() -> Any:
    """vLLM's config for the demo checkpoint, made with the plugin loaded."""
    os.environ.update(CPU_ENVIRONMENT)
    from vllm.engine.arg_utils import EngineArgs

    return EngineArgs(
        model=str(CHECKPOINT), enforce_eager=True, max_model_len=512
    ).create_engine_config()


def redetect(source: Path, vllm_config: Any) -> None:
    """Run vllm-ascend's later, file-based detection of the quantization method."""

    def get_model_file(model: str, filename: str, revision: str | None = None) -> Path | None:
        file = Path(model, filename)
        return file if file.exists() else None

    module = "vllm_ascend.quantization.utils"
    names = {
        "json": json, "Path": Path, "logger": logging.getLogger("test"),
        "ASCEND_QUANTIZATION_METHOD": "ascend", "FP8_METHOD": "fp8",
        "COMPRESSED_TENSORS_METHOD": "compressed-tensors", "get_model_file": get_model_file,
        # The chip on which every version looks for fp8.
        "get_ascend_device_type": lambda: "A5", "AscendDeviceType": SimpleNamespace(A5="A5"),
    }  # fmt: skip
    parsed = tree(source, module)
    assert parsed is not None
    wanted = "detect_quantization_method"
    (detect,) = [node for node in parsed.body if getattr(node, "name", None) == wanted]
    # It imports one constant from a module that needs torch_npu.
    detect.body = [node for node in detect.body if not isinstance(node, ast.ImportFrom)]  # type: ignore[attr-defined]
    scope = {**names, "MODELSLIM_CONFIG_FILENAME": "quant_model_description.json"}
    exec(compile(ast.Module([detect], []), module, "exec"), scope)
    function(source, module, scope, "maybe_auto_detect_quantization")[
        "maybe_auto_detect_quantization"
    ](vllm_config)


def test_redetection_leaves_our_method_in_place(source: Path, engine_config: Any) -> None:
    before = engine_config.quant_config
    redetect(source, engine_config)
    assert engine_config.model_config.quantization == "ascend_dequant"
    assert engine_config.quant_config is before


def test_redetection_would_enable_fp8_if_the_method_were_only_cleared(source: Path) -> None:
    # Why the plugin names a method of its own instead of removing the settings.
    model_config = SimpleNamespace(model=str(CHECKPOINT), revision=None, quantization=None)
    vllm_config = SimpleNamespace(model_config=model_config, load_config=None, quant_config=None)
    with pytest.raises(AttributeError):  # it goes on to build a config, which the stub lacks
        redetect(source, vllm_config)
    assert model_config.quantization == "fp8"


def test_rms_norm_finds_what_it_reads_of_our_config(source: Path, engine_config: Any) -> None:
    text = (source / "vllm_ascend" / "ops" / "layernorm.py").read_text()
    assert ".quant_config.quant_description" in text
    assert engine_config.quant_config.quant_description == {}
