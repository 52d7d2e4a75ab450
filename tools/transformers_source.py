# SPDX-License-Identifier: Apache-2.0
"""Which names the installed transformers exports, read from its source without importing it.

Importing it costs seconds. ``lacks`` says yes only when sure: a module with a star import, with
its own ``__getattr__`` or that fills itself at run time is taken to have every name.
"""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

# Names of transformers 4 that vLLM puts back before remote code runs
# (vllm/transformers_utils/processor.py, _transformers_v4_compatibility_import).
_ADDED_BY_VLLM = frozenset({("transformers.processing_utils", "ChatTemplateLoadKwargs")})
# Per-model packages export the ``__all__`` of their files and what ``@requires`` decorates
# (transformers/utils/import_utils.py, create_import_structure_from_path).
_ALL = re.compile(rb"^__all__\s*=\s*[\[(]([^\])]*)", re.MULTILINE)
_WORD = re.compile(rb"""["'](\w+)["']""")
_CLASS = re.compile(rb"^class (\w+)", re.MULTILINE)
_REQUIRED = re.compile(
    rb"^@requires\((?:[^()]|\([^()]*\))*\)\n(?:@[^\n]*\n)*(?:class|def) (\w+)", re.MULTILINE
)
# _LazyModule resolves these to other classes when they do not exist (import_utils.py).
_ALIASED = ("Fast", "Tokenizer")
_FILLED_AT_RUN_TIME = re.compile(
    r"^[^#\n]*(?:\b(?:globals|vars)\(\)|sys\.modules\[__name__\])", re.MULTILINE
)


@dataclass(frozen=True)
class TransformersSource:
    """The transformers that this Python would import; ``folder`` is its package's."""

    version: str
    folder: Path

    def lacks_module(self, module: str) -> bool:
        """Whether ``import module`` would fail; ``module`` begins with "transformers"."""
        path = self._path(module)
        if path.is_dir() or path.with_suffix(".py").exists():
            return False
        # __init__.py makes aliases of old module names, and one with _fast per image processor.
        alias = module.removeprefix("transformers") + '"'
        return not module.endswith("_fast") and alias not in _text(self.folder / "__init__.py")

    def lacks(self, module: str, name: str) -> bool:
        """Whether ``from module import name`` would fail."""
        if self.lacks_module(module):
            return True
        if (module, name) in _ADDED_BY_VLLM:
            return False
        if name == "*" or name.startswith("__") or not self.lacks_module(f"{module}.{name}"):
            return False
        path = self._path(module)
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if not file.exists():
            return False
        text = _text(file)
        lazy = "_LazyModule(" in text
        if lazy and (name.startswith("_") or name.endswith(_ALIASED)):
            return False
        names = _top_level_names(file)
        if not lazy:
            unsure = names & {"*", "__getattr__"} or _FILLED_AT_RUN_TIME.search(text)
            return not unsure and name not in names
        # Names under TYPE_CHECKING and in lists count too: more than are exported, never fewer.
        names |= _constants(file)
        for dummies in path.glob("utils/dummy_*.py"):
            names |= _top_level_names(dummies)
        if "define_import_structure(" in text:
            names |= _exported(path / "models" if path == self.folder else path)
        return name not in names

    def exports(self, name: str) -> bool:
        """Whether ``transformers.name`` is a class or function of one of its models."""
        return name in _exported(self.folder / "models")

    def find_processor(self, name: str) -> ast.ClassDef | None:
        """The class of that name in a file for processing pictures, sound, video or all."""
        file = _processor_files(self.folder).get(name)
        body = _tree(file).body if file else []
        classes = (node for node in body if isinstance(node, ast.ClassDef))
        return next((node for node in classes if node.name == name), None)

    def _path(self, module: str) -> Path:
        return self.folder.joinpath(*module.split(".")[1:])


def installed_transformers() -> TransformersSource | None:
    """Find transformers and read its version; None if this Python has none."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(spec.submodule_search_locations[0])
    version = re.search(r'^__version__ = "(.+)"', _text(folder / "__init__.py"), re.MULTILINE)
    return TransformersSource(version[1] if version else "unknown", folder)


@cache
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")


@cache
def _tree(file: Path) -> ast.Module:
    return ast.parse(_text(file))


@cache
def _exported(folder: Path) -> frozenset[str]:
    names: set[bytes] = set()
    for file in folder.rglob("*.py"):
        content = file.read_bytes()
        for found in _ALL.finditer(content):
            names.update(_WORD.findall(found[1]))
        if b"@requires" in content:
            names.update(_REQUIRED.findall(content))
    return frozenset(name.decode() for name in names)


@cache
def _processor_files(folder: Path) -> Mapping[str, Path]:
    kinds = ("*processing*.py", "feature_extraction*.py")
    files = [f for kind in kinds for place in ("", "models/*/") for f in folder.glob(place + kind)]
    return {name.decode(): file for file in files for name in _CLASS.findall(file.read_bytes())}


@cache
def _constants(file: Path) -> frozenset[str]:
    nodes = ast.walk(_tree(file))
    return frozenset(
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)
    )


@cache
def _top_level_names(file: Path) -> frozenset[str]:
    """Names that the module binds, on whatever condition."""
    return frozenset(_bound(_tree(file).body))


def _bound(body: list[ast.stmt]) -> Iterator[str]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from (a.asname or a.name.split(".")[0] for a in node.names)
        else:
            for part in ast.walk(node):
                if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                    yield part.id
            for block in ("body", "orelse", "finalbody"):
                yield from _bound(getattr(node, block, []))
            for handler in getattr(node, "handlers", []):
                yield from _bound(handler.body)
