# SPDX-License-Identifier: Apache-2.0
"""The python files that a checkpoint brings along, and what they import from transformers.

They are parsed, never imported or executed. What it cannot see: imports inside functions, names
reached as attributes (``transformers.X``), and what the code does.
"""

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import read_json
from vllm_ascend_bringup.errors import CheckpointError
from vllm_ascend_bringup.tools.transformers_source import TransformersSource

# The files in which transformers looks for an auto_map.
AUTO_MAP_FILES = (
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "video_preprocessor_config.json",
)  # fmt: skip
_REFERENCE = re.compile(r"(\w[\w.-]*)\.(\w+)")
_IMPORT_ERRORS = frozenset({"ImportError", "ModuleNotFoundError", "Exception", "BaseException"})


@dataclass(frozen=True)
class MissingImport:
    """A name that the installed transformers lacks; ``name`` is "" if the module is missing."""

    file: str
    line: int
    module: str
    name: str


@dataclass(frozen=True)
class RemoteCode:
    """What ``auto_map`` leads to.

    ``files``: each python file of the checkpoint with the auto classes that need it.
    ``elsewhere``: entries that name another repository. ``absent``, ``broken``: files that are
    not there, and files that python cannot parse, each with the reason.
    """

    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    elsewhere: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    broken: Mapping[str, str] = field(default_factory=dict)
    missing: tuple[MissingImport, ...] = ()

    @property
    def has_model(self) -> bool:
        """Whether there is a model class, as vLLM's transformers fallback looks for it."""
        classes = {name for names in self.files.values() for name in names}
        classes |= {entry.partition(":")[0] for entry in self.elsewhere}
        return any(name.startswith("AutoModel") for name in classes)


def read_remote_code(folder: Path, transformers: TransformersSource | None) -> RemoteCode:
    """Follow ``auto_map`` through the checkpoint's own files; ``missing`` needs transformers."""
    found = _Found(folder, {}, set(), {}, {})
    elsewhere = []
    for auto_class, reference in _references(folder):
        if "--" in reference:
            elsewhere.append(f"{auto_class}: {reference}")
        elif match := _REFERENCE.fullmatch(reference):
            found.follow(folder / (match[1].replace(".", "/") + ".py"), auto_class)
        else:
            found.broken[reference] = f"{auto_class} of auto_map is not a module and a class"
    missing: list[MissingImport] = []
    if transformers:
        for file, tree in found.trees.items():
            missing += _missing(file, tree, transformers)
    return RemoteCode(
        {file: tuple(sorted(classes)) for file, classes in sorted(found.classes.items())},
        tuple(elsewhere), tuple(sorted(found.absent)), found.broken, tuple(missing),
    )  # fmt: skip


@dataclass
class _Found:
    """The files met so far."""

    folder: Path
    trees: dict[str, ast.Module]
    absent: set[str]
    broken: dict[str, str]
    classes: dict[str, set[str]]

    def follow(self, file: Path, auto_class: str) -> None:
        """Read ``file`` and what it imports relatively, unless that was done for this class."""
        name = file.relative_to(self.folder).as_posix()
        if auto_class in self.classes.get(name, ()):
            return
        if not file.is_file():
            self.absent.add(name)
            return
        self.classes.setdefault(name, set()).add(auto_class)
        if name not in self.trees and name not in self.broken:
            try:
                self.trees[name] = _parse(file)
            except (SyntaxError, ValueError, RecursionError, MemoryError, OSError) as error:
                line = getattr(error, "lineno", None)
                at = f"line {line}: " if line else ""
                self.broken[name] = f"{at}{getattr(error, 'msg', None) or error}"
        if name in self.trees:
            for module in _relative_modules(self.trees[name], file, self.folder):
                self.follow(module, auto_class)


def _references(folder: Path) -> Iterator[tuple[str, str]]:
    """Auto class and reference of every entry of every auto_map."""
    for name in AUTO_MAP_FILES:
        auto_map = settings_of(folder / name).get("auto_map")
        # An old tokenizer_config.json holds the pair of AutoTokenizer alone.
        entries = auto_map if isinstance(auto_map, dict) else {"AutoTokenizer": auto_map}
        for auto_class, value in entries.items():
            for reference in value if isinstance(value, list) else [value]:
                if isinstance(reference, str):
                    yield auto_class, reference


def settings_of(file: Path) -> Mapping[str, Any]:
    """A JSON object; empty if the file is missing or is none, which its reader will say."""
    try:
        return read_json(file)
    except CheckpointError:
        return {}


def _parse(file: Path) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about escapes in strings, which are not ours to print
        return ast.parse(file.read_bytes())


def _relative_modules(tree: ast.Module, file: Path, folder: Path) -> Iterator[Path]:
    for node, optional in _imports(tree.body):
        if not isinstance(node, ast.ImportFrom) or not 0 < node.level <= len(file.parents):
            continue
        package = file.parents[node.level - 1]
        for name in [node.module] if node.module else [alias.name for alias in node.names]:
            module = package.joinpath(*name.split("."))
            # An absent one is told only if it is sure to be a module, and asked for.
            unsure = optional or not node.module or node.level > 1 or module.is_dir()
            python = module.with_name(module.name + ".py")
            if python.is_relative_to(folder) and (python.is_file() or not unsure):
                yield python


def _missing(file: str, tree: ast.Module, transformers: TransformersSource) -> list[MissingImport]:
    found = []
    for node, optional in _imports(tree.body):
        if optional:
            continue
        if isinstance(node, ast.Import):
            modules = [a.name for a in node.names if _of_transformers(a.name)]
            found += [(node.lineno, m, "") for m in modules if transformers.lacks_module(m)]
        elif not node.level and node.module and _of_transformers(node.module):
            if transformers.lacks_module(node.module):
                found.append((node.lineno, node.module, ""))
                continue
            names = [a.name for a in node.names if transformers.lacks(node.module, a.name)]
            found += [(node.lineno, node.module, name) for name in names]
    return [MissingImport(file, line, module, name) for line, module, name in found]


def _of_transformers(module: str) -> bool:
    return module.partition(".")[0] == "transformers"


def _imports(
    body: list[ast.stmt], optional: bool = False
) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Imports that run when the module is loaded, and whether they may fail or be left out."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, optional
        elif isinstance(node, ast.If):
            yield from _imports(node.body + node.orelse, True)
        elif isinstance(node, ast.Try):
            caught = optional or any(_catches_imports(handler) for handler in node.handlers)
            yield from _imports(node.body + node.orelse, caught)
            for handler in node.handlers:
                yield from _imports(handler.body, True)
            yield from _imports(node.finalbody, optional)
        elif isinstance(node, ast.With | ast.ClassDef):
            yield from _imports(node.body, optional or isinstance(node, ast.With))


def _catches_imports(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in _IMPORT_ERRORS) for kind in kinds
    )
