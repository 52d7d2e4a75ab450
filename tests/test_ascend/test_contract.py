# SPDX-License-Identifier: Apache-2.0
"""What we assume of vllm-ascend, checked against its published source.

vllm-ascend cannot be imported without an NPU's libraries, so names are looked up in its syntax
trees, and functions that need nothing of torch_npu are executed from its source as they are.
"""

import ast
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vllm_ascend_bringup import ascend_layers
from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.native import COMPRESSED_TENSORS, Need, chooses, decide
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


CONFIG = "vllm_ascend.quantization.compressed_tensors_config"
# Of whom vLLM's platform imports the config classes, on every chip but the 310P.
CONFIG_MODULES = (CONFIG, "vllm_ascend.quantization.fp8_config",
                  "vllm_ascend.quantization.modelopt_mxfp8_config")  # fmt: skip
DEVICE_TYPES = ("vllm_ascend.utils", "vllm_ascend.device.hardware")


def exported(source: Path, target: str) -> bool:
    """Whether ``module:name`` can be imported: defined there, or imported into it."""
    module, _, name = target.partition(":")
    parsed = tree(source, module) or tree(source, f"{module}.__init__")
    imported = [
        node for node in (parsed.body if parsed else []) if isinstance(node, ast.ImportFrom)
    ]
    names = {alias.asname or alias.name for node in imported for alias in node.names}
    return name in names or defined(source, target)


def members(source: Path, target: str) -> dict[str, ast.stmt]:
    """What the body of a class defines, by name; empty if there is no such class."""
    module, _, name = target.partition(":")
    parsed = tree(source, module)
    found = {}
    for node in parsed.body if parsed else []:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for item in node.body:
                targets = getattr(item, "targets", [getattr(item, "target", item)])
                for at in targets:
                    found[getattr(at, "id", getattr(at, "name", ""))] = item
    return found


def texts(source: Path, nodes: "list[ast.expr]") -> list[str]:
    """Strings, and names of string constants of vllm_ascend.utils, as strings."""
    utils = tree(source, "vllm_ascend.utils")
    assert utils is not None
    constants = {node.targets[0].id: node.value.value for node in utils.body
                 if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)
                 and isinstance(node.value, ast.Constant)}  # fmt: skip
    return [constants[node.id] if isinstance(node, ast.Name) else ast.literal_eval(node)
            for node in nodes]  # fmt: skip


def decorations(source: Path, name: str, files: "list[Path]") -> Iterator[list[str]]:
    """The arguments of every call of the decorator ``name`` (or as a function) in ``files``."""
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
                yield texts(source, node.args)


class Wheel:
    """What ``native.probe_platform`` would find of one version, on any chip but the 310P."""

    def __init__(self, source: Path) -> None:
        folder = source / "vllm_ascend" / "quantization"
        self.schemes = {
            ":".join(names)
            for names in decorations(source, "register_scheme", sorted(folder.glob("methods/*.py")))
        }
        allowed = members(source, "vllm_ascend.platform:NPUPlatform")["supported_quantization"]
        assert isinstance(allowed, ast.AnnAssign)
        assert isinstance(allowed.value, ast.List)
        files = [source / Path(*module.split(".")).with_suffix(".py") for module in CONFIG_MODULES]
        own = decorations(source, "register_quantization_config", [f for f in files if f.exists()])
        self.supported = set(texts(source, allowed.value.elts)) & {name for (name,) in own}
        detect = members(source, f"{CONFIG}:AscendCompressedTensorsConfig")["_detect_quant_type"]
        detect.args.args[1:] = [ast.arg(a.arg) for a in detect.args.args[1:]]  # type: ignore[attr-defined]
        scope: dict[str, Any] = {}
        exec(compile(ast.Module([detect], []), CONFIG, "exec"), scope)
        self.config = SimpleNamespace(_detect_quant_type=scope["_detect_quant_type"])

    def has_method(self, method: str, scheme: str) -> bool:
        return scheme in self.schemes and chooses(method, self.config, scheme.partition(":")[0])

    def decodes(self, chip: str, need: Need) -> bool:
        return decide(need, CHIPS[chip], self.supported, self.has_method).decode


@pytest.fixture
def wheel(source: Path) -> Wheel:
    return Wheel(source)


def need(kinds: str, method: str = COMPRESSED_TENSORS, activations: str = "none") -> Need:
    """A need whose ``kinds`` are separated by spaces; "experts" among them means no linear layer."""
    words = set(kinds.split())
    return Need(frozenset(words - {"experts"}), method, "experts" in words, activations)


def test_the_names_that_the_probe_asks_for_exist(source: Path) -> None:
    assert exported(source, "vllm_ascend.utils:get_ascend_device_type")
    assert exported(source, "vllm_ascend.quantization.methods:get_scheme_class")
    assert defined(source, "vllm_ascend.quantization.methods.registry:get_scheme_class")


def test_we_know_every_chip_that_it_knows(source: Path) -> None:
    found = [members(source, f"{module}:AscendDeviceType") for module in DEVICE_TYPES]
    assert {name for names in found for name in names} == {c.device_type for c in CHIPS.values()}


def test_its_registry_answers_as_the_probe_asks(source: Path) -> None:
    module = "vllm_ascend.quantization.methods.registry"
    scope = function(source, module, {"Any": Any, "_SCHEME_REGISTRY": {}}, "register_scheme",
                     "get_scheme_class")  # fmt: skip
    scope["register_scheme"]("W4A16", "moe")(Wheel)
    assert scope["get_scheme_class"]("W4A16", "moe") is Wheel
    assert scope["get_scheme_class"]("W4A16", "linear") is None


def test_on_the_310p_it_takes_over_no_method_but_modelslims(source: Path) -> None:
    files = sorted((source / "vllm_ascend" / "_310p").rglob("*.py"))
    assert list(decorations(source, "register_quantization_config", files)) == [["ascend"]]
    update = members(source, "vllm_ascend.platform:NPUPlatform")["pre_register_and_update"]
    (choice,) = [node for node in ast.walk(update)
                 if isinstance(node, ast.If) and "is_310p" in ast.unparse(node.test)]  # fmt: skip
    for_310p = choice.orelse if isinstance(choice.test, ast.UnaryOp) else choice.body
    assert "AscendModelSlimConfig310" in ast.unparse(for_310p[0])
    assert len(for_310p) == 1


@pytest.mark.parametrize("chip", CHIPS)
@pytest.mark.parametrize(
    ("what", "on"),
    [
        (need("fp8_channel", activations="dynamic"), {"950"}),
        (need("fp8_block mxfp4", "deepseek_v4_fp8"), {"950"}),
        (need("int8", activations="dynamic"), {"a2", "a3", "950"}),
        (need("int8", activations="static"), {"a2", "a3", "950"}),
        (need("int4 experts", activations="dynamic"), {"a2", "a3", "950"}),
        (need("int4 experts"), {"a2", "a3", "950"}),
        (need("int4"), set()),
        (need("fp8_channel", activations="static"), set()),
        (need("fp8_tensor", "fp8"), set()),
        (need("nvfp4", "modelopt_fp4"), set()),
        (need("mxfp4", "gpt_oss_mxfp4"), set()),
        (need("fp8_channel", "fbgemm_fp8"), set()),
    ],
    ids=str,
)
def test_what_this_version_executes(wheel: Wheel, what: Need, on: set[str], chip: str) -> None:
    supported = wheel.supported if chip != "310p" else {"ascend"}
    decision = decide(what, CHIPS[chip], supported, wheel.has_method)
    assert decision.decode == (chip not in on), decision.reason


def test_what_came_with_a_version_is_told_from_its_source(source: Path, wheel: Wheel) -> None:
    # Right for every version, because each name is looked up and no version is.
    has_mxfp8_config = tree(source, CONFIG_MODULES[2]) is not None
    assert wheel.decodes("950", need("mxfp8", "mxfp8")) != has_mxfp8_config
    assert wheel.decodes("950", need("mxfp8", "modelopt_mxfp8")) != has_mxfp8_config
    packed = "_is_packed_mxfp4" in members(source, f"{CONFIG}:AscendCompressedTensorsConfig")
    assert wheel.decodes("950", need("mxfp4 experts")) != packed
    assert wheel.decodes("950", need("mxfp4"))
    block = {"fp8:linear", "fp8:moe"} <= wheel.schemes
    assert wheel.decodes("950", need("fp8_block", "fp8")) != block
    assert wheel.decodes("a3", need("fp8_block", "fp8"))


def test_its_compressed_tensors_takes_static_fp8_for_int8(source: Path) -> None:
    # Why such a checkpoint is decoded on every chip.
    from compressed_tensors.quantization import QuantizationArgs, QuantizationStrategy

    name = "_is_static_tensor_w8a8"
    method = members(source, f"{CONFIG}:AscendCompressedTensorsConfig")[name]
    names = {"QuantizationArgs": QuantizationArgs, "QuantizationStrategy": QuantizationStrategy}
    exec(compile(ast.Module([method], []), CONFIG, "exec"), names)
    fp8 = {"num_bits": 8, "type": "float", "symmetric": True, "dynamic": False}
    weights = QuantizationArgs(strategy="channel", **fp8)
    assert names[name](None, weights, QuantizationArgs(strategy="tensor", **fp8))
