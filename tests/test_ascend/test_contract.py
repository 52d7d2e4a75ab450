# SPDX-License-Identifier: Apache-2.0
"""What we assume of vllm-ascend, checked against its published source.

vllm-ascend cannot be imported without an NPU's libraries, so names are looked up in its syntax
trees, and functions that need nothing of torch_npu are executed from its source as they are.
"""

import ast
import functools
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ascend_source import MARKS

from vllm_ascend_bringup import ascend_layers
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.native import COMPRESSED_TENSORS, Need, chooses, decide
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

pytestmark = MARKS


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


def exported(source: Path, target: str) -> bool:
    """Whether ``module:name`` can be imported: defined there, or imported into it."""
    module, _, name = target.partition(":")
    parsed = tree(source, module) or tree(source, f"{module}.__init__")
    body = parsed.body if parsed else []
    imported = [node.names for node in body if isinstance(node, ast.ImportFrom)]
    names = {alias.asname or alias.name for aliases in imported for alias in aliases}
    return name in names or defined(source, target)


@pytest.mark.parametrize(
    "targets",
    [ascend_layers.LINEAR_METHODS, ascend_layers.MOE_METHODS, ascend_layers.MOE_METHODS_310P,
     ("vllm_ascend.platform:NPUPlatform",), ("vllm_ascend.utils:is_310p",)],
    ids=["linear", "moe", "moe of the 310P", "platform", "is_310p"],
)  # fmt: skip
def test_what_we_import_lazily_exists(source: Path, targets: tuple[str, ...]) -> None:
    assert any(exported(source, target) for target in targets), targets


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


CONFIG_CLASS = "vllm_ascend.quantization.compressed_tensors_config:AscendCompressedTensorsConfig"
MXFP8_CONFIG = "vllm_ascend.quantization.modelopt_mxfp8_config"
PLATFORM = "vllm_ascend.platform:NPUPlatform"


def members(source: Path, target: str) -> dict[str, Any]:
    """What the body of a class assigns and defines, by name; empty if there is no such class."""
    module, _, name = target.partition(":")
    parsed = tree(source, module)
    found: dict[str, Any] = {}
    for node in parsed.body if parsed else []:
        if isinstance(node, ast.ClassDef) and node.name == name:
            found |= {item.name: item for item in node.body if isinstance(item, ast.FunctionDef)}
            for item in node.body:
                if isinstance(item, ast.Assign | ast.AnnAssign):
                    (at,) = item.targets if isinstance(item, ast.Assign) else [item.target]
                    found[ast.unparse(at)] = item.value
    return found


def arguments(source: Path, decorator: str, folder: str) -> list[list[Any]]:
    """The arguments of every use of a decorator, the constants of vllm_ascend.utils filled in."""
    utils = tree(source, "vllm_ascend.utils")
    assert utils is not None
    constants = {ast.unparse(node.targets[0]): node.value for node in utils.body
                 if isinstance(node, ast.Assign)}  # fmt: skip
    return [
        [ast.literal_eval(constants.get(ast.unparse(value), value)) for value in node.args]
        for file in sorted((source / "vllm_ascend" / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == decorator
    ]


class Wheel:
    """What ``native.probe_platform`` would find of one version on a chip."""

    def __init__(self, source: Path) -> None:
        registered = arguments(source, "register_scheme", "quantization/methods")
        self.schemes = {":".join(names) for names in registered}
        own = arguments(source, "register_quantization_config", "quantization")
        on_310p = arguments(source, "register_quantization_config", "_310p")
        # Every method it takes over is one that it also allows.
        self.supported = {chip: {name for (name,) in (on_310p if chip == "310p" else own)}
                          for chip in CHIPS}  # fmt: skip
        detect = members(source, CONFIG_CLASS)["_detect_quant_type"]
        # Its annotations name what cannot be imported here.
        future = ast.parse("from __future__ import annotations").body
        self.scope: dict[str, Any] = {}
        exec(compile(ast.Module([*future, detect], []), CONFIG_CLASS, "exec"), self.scope)

    def has_method(self, method: str, scheme: str) -> bool:
        config = SimpleNamespace(_detect_quant_type=self.scope["_detect_quant_type"])
        return scheme in self.schemes and chooses(method, config, scheme.partition(":")[0])

    def decodes(self, chip: str, need: Need) -> bool:
        return decide(need, CHIPS[chip], self.supported[chip], self.has_method).decode


@functools.cache
def read_wheel(source: Path) -> Wheel:
    return Wheel(source)


@pytest.fixture
def wheel(source: Path) -> Wheel:
    return read_wheel(source)


def need(kinds: str, method: str = COMPRESSED_TENSORS, activations: str = "none") -> Need:
    """``kinds``: separated by spaces; "experts" says that no linear layer is packed."""
    words = frozenset(kinds.split())
    return Need(words - {"experts"}, method, "experts" in words, activations)


def test_the_names_that_the_probe_asks_for_exist(source: Path) -> None:
    assert exported(source, "vllm_ascend.utils:get_ascend_device_type")
    assert exported(source, "vllm_ascend.quantization.methods:get_scheme_class")
    assert "supported_quantization" in members(source, PLATFORM)


def test_we_know_every_chip_that_it_knows(source: Path) -> None:
    # Versions after 0.26 define it in the second module.
    found = {**members(source, "vllm_ascend.utils:AscendDeviceType"),
             **members(source, "vllm_ascend.device.hardware:AscendDeviceType")}  # fmt: skip
    assert set(found) == {chip.device_type for chip in CHIPS.values()}


def test_its_registry_answers_as_the_probe_asks(source: Path) -> None:
    module = "vllm_ascend.quantization.methods.registry"
    scope: dict[str, Any] = {"Any": Any, "_SCHEME_REGISTRY": {}}
    scope = function(source, module, scope, "register_scheme", "get_scheme_class")
    scope["register_scheme"]("W4A16", "moe")(Wheel)
    assert scope["get_scheme_class"]("W4A16", "moe") is Wheel
    assert scope["get_scheme_class"]("W4A16", "linear") is None


def test_what_it_takes_over(source: Path, wheel: Wheel) -> None:
    allowed = members(source, PLATFORM)["supported_quantization"]
    assert wheel.supported["310p"] == {"ascend"}
    assert wheel.supported["a2"] >= {"ascend", "fp8", "deepseek_v4_fp8", COMPRESSED_TENSORS}
    assert len(wheel.supported["a2"]) == len(allowed.elts)


def test_on_the_310p_it_imports_no_other_config_class(source: Path) -> None:
    update = members(source, PLATFORM)["pre_register_and_update"]
    (choice,) = [node for node in ast.walk(update)
                 if isinstance(node, ast.If) and "is_310p" in ast.unparse(node.test)]  # fmt: skip
    for_310p = choice.orelse if ast.unparse(choice.test).startswith("not ") else choice.body
    (statement,) = for_310p
    assert isinstance(statement, ast.ImportFrom)
    assert [alias.name for alias in statement.names] == ["AscendModelSlimConfig310"]


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("what", "executed_on"),
    [
        (need("int8", activations="static"), ("a2", "a3", "950")),
        (need("int8", activations="dynamic"), ("a2", "a3", "950")),
        (need("int4 experts", activations="dynamic"), ("a2", "a3", "950")),
        (need("int4 experts"), ("a2", "a3", "950")),
        (need("int4"), ()),
        (need("fp8_channel", activations="dynamic"), ("950",)),
        (need("fp8_channel", activations="static"), ()),
        (need("fp8_block mxfp4", "deepseek_v4_fp8"), ("950",)),
        (need("fp8_tensor", "fp8"), ()),
        (need("nvfp4", "modelopt_fp4"), ()),
        (need("mxfp4", "gpt_oss_mxfp4"), ()),
    ],
    ids=lambda value: "-".join((*sorted(value.kinds), value.activations))
    if isinstance(value, Need) else "on",
)  # fmt: skip
def test_what_every_version_executes(
    wheel: Wheel, what: Need, executed_on: tuple[str, ...], chip: str
) -> None:
    assert wheel.decodes(chip, what) == (chip not in executed_on)


def test_what_came_with_a_version_is_told_from_what_is_there(source: Path, wheel: Wheel) -> None:
    for method in ("mxfp8", "modelopt_mxfp8"):
        assert wheel.decodes("950", need("mxfp8", method)) == (not tree(source, MXFP8_CONFIG))
    packed = "_is_packed_mxfp4" in members(source, CONFIG_CLASS)
    assert wheel.decodes("950", need("mxfp4 experts")) != packed
    assert wheel.decodes("950", need("mxfp4"))
    block = {"fp8:linear", "fp8:moe"} <= wheel.schemes
    assert wheel.decodes("950", need("fp8_block", "fp8")) != block
    assert wheel.decodes("a3", need("fp8_block", "fp8"))


def test_its_compressed_tensors_takes_static_fp8_for_int8(source: Path) -> None:
    # Why such a checkpoint is decoded on every chip.
    from compressed_tensors.quantization import QuantizationArgs, QuantizationStrategy

    name = "_is_static_tensor_w8a8"
    names: dict[str, Any] = {
        "QuantizationArgs": QuantizationArgs, "QuantizationStrategy": QuantizationStrategy
    }  # fmt: skip
    predicate = members(source, CONFIG_CLASS)[name]
    exec(compile(ast.Module([predicate], []), CONFIG_CLASS, "exec"), names)
    fp8 = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
    weights, activations = ({**fp8, "strategy": name} for name in ("channel", "tensor"))
    assert names[name](None, QuantizationArgs(**weights), QuantizationArgs(**activations))


def test_its_int4_experts_have_one_scale_per_32_columns(source: Path) -> None:
    # It looks for group_size where compressed-tensors does not write it.
    text = (source / "vllm_ascend" / "quantization" / "methods" / "w4a16.py").read_text()
    assert 'quant_description.get("group_size", 32)' in text
