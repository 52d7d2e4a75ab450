# SPDX-License-Identifier: Apache-2.0
"""Which architectures the installed vLLM has classes for, without importing vLLM.

Importing vLLM costs seconds, and its registry is a module of literal tables, so those are read
from the source. So are the names for which it makes a draft model of the layers for multi-token
prediction. What it cannot see: architectures that other plugins register at run time.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

from vllm_ascend_bringup.patching import source_version

_REGISTRY = Path("model_executor", "models", "registry.py")
_SPECULATIVE = Path("config", "speculative.py")
# Tables that name something other than what vLLM has a class for.
_PREVIOUSLY = "_PREVIOUSLY_SUPPORTED_MODELS"
_OTHER_TABLES = (_PREVIOUSLY, "_OOT_SUPPORTED_MODELS")
# Shares a branch with deepseek_v4, but its mtp tensors are of another kind, and vLLM refuses them.
_NO_MTP = "deepseek_v41"


@dataclass(frozen=True)
class InstalledVllm:
    """The vLLM that this Python would import; ``architectures`` is empty if none is.

    ``previously``: architectures it no longer has, and the last version that had each. ``places``:
    module and class of each architecture, as the registry writes them.
    """

    version: str | None
    architectures: frozenset[str]
    previously: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    places: Mapping[str, tuple[str, str]] = field(default_factory=dict)

    def encoder_data_parallel(self, architecture: str) -> bool | None:
        """Whether its class takes --mm-encoder-tp-mode data; None if that cannot be known."""
        if self.folder is None or architecture not in self.places:
            return None
        module, name = self.places[architecture]
        file = self.folder.parent.joinpath(*_full(module).split(".")).with_suffix(".py")
        return _states(self.folder.parent, file, name, "supports_encoder_tp_data")

    def has_mtp(self, architecture: str, model_type: str) -> bool | None:
        """Whether it makes an MTP draft model for this model; None if that cannot be known."""
        if self.folder is None or not (self.folder / _SPECULATIVE).exists():
            return None
        names, parts = _mtp_targets(self.folder / _SPECULATIVE)
        if not names:
            return None
        named = {architecture, model_type} & names or any(part in model_type for part in parts)
        return bool(named) and model_type != _NO_MTP


def installed_vllm() -> InstalledVllm:
    """Find vLLM and read its version and registry from their source files."""
    spec = find_spec("vllm")
    if spec is None or not spec.submodule_search_locations:
        return InstalledVllm(None, frozenset())
    folder = Path(spec.submodule_search_locations[0])
    tables = _tables(folder / _REGISTRY)
    names = {n for table, rows in tables.items() if table not in _OTHER_TABLES for n in rows}
    previously = {
        name: str(value.value)
        for name, value in tables.get(_PREVIOUSLY, {}).items()
        if isinstance(value, ast.Constant)
    }
    places = {
        name: (str(value.elts[0].value), str(value.elts[1].value))
        for table, rows in tables.items()
        if table not in _OTHER_TABLES
        for name, value in rows.items()
        if isinstance(value, ast.Tuple)
        and isinstance(value.elts[0], ast.Constant)
        and isinstance(value.elts[1], ast.Constant)
    }
    return InstalledVllm(source_version(folder), frozenset(names), previously, folder, places)


def _full(module: str) -> str:
    return module if module.startswith("vllm.") else f"vllm.model_executor.models.{module}"


def _states(root: Path, file: Path, name: str, attribute: str) -> bool | None:
    """Whether the class of that name sets the attribute to True, itself or by a base class.

    ``root``: the folder that packages are in. None if the class is not found in the file.
    """
    if not file.exists():  # a package
        file = file.with_suffix("") / "__init__.py"
    nodes = ast.parse(file.read_text(encoding="utf-8")).body if file.exists() else []
    package = file.parent.relative_to(root).parts
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and any(a.name == name for a in node.names):
            start = package[: len(package) + 1 - node.level] if node.level else ()
            module = root.joinpath(*start, *(node.module or "").split(".")).with_suffix(".py")
            return _states(root, module, name, attribute)
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        for line in node.body:
            target = line.targets[0] if isinstance(line, ast.Assign) else getattr(line, "target", 0)
            if isinstance(target, ast.Name) and target.id == attribute:
                value = getattr(line, "value", None)
                return isinstance(value, ast.Constant) and value.value is True
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        return any(_states(root, file, base, attribute) for base in bases)
    return None


def _tables(file: Path) -> Mapping[str, Mapping[str, ast.expr]]:
    """The literal tables of the registry: table name, architecture, value."""
    tables: dict[str, Mapping[str, ast.expr]] = {}
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        value = getattr(node, "value", None)
        if not isinstance(target, ast.Name) or not isinstance(value, ast.Dict):
            continue
        if target.id.endswith("_MODELS"):
            rows = zip(value.keys, value.values, strict=True)
            tables[target.id] = {
                str(key.value): row for key, row in rows if isinstance(key, ast.Constant)
            }
    return tables


def _mtp_targets(file: Path) -> tuple[set[str], set[str]]:
    """Model types and architectures that SpeculativeConfig.hf_config_override turns into drafts.

    It is a row of ``if`` statements that compare them with literals. Returns the names it asks
    for as a whole, and those it asks for as a part of the model type.
    """
    whole: set[str] = set()
    parts: set[str] = set()
    functions = [
        node
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef) and node.name == "hf_config_override"
    ]
    branches = [n for function in functions for n in ast.walk(function) if isinstance(n, ast.If)]
    for branch in branches:
        if not any(_is_of_mtp(node) for line in branch.body for node in ast.walk(line)):
            continue
        whole |= _texts(branch.test)
        for node in ast.walk(branch.test):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.In):
                parts |= _texts(node.left)
    return whole, parts


def _is_of_mtp(node: ast.AST) -> bool:
    """Whether it names an MTP class, or moves to the text config for a later branch to judge."""
    if isinstance(node, ast.Attribute):
        return node.attr == "text_config"
    return any("MTP" in text or text.endswith("_mtp") for text in _texts(node, deep=False))


def _texts(node: ast.AST, *, deep: bool = True) -> set[str]:
    nodes = ast.walk(node) if deep else [node]
    return {n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
