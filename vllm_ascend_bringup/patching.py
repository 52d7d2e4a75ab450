# SPDX-License-Identifier: Apache-2.0
"""Patches of vLLM: the last resort, where it has no hook.

A patch states what it replaces and a fingerprint of the source it expects there. It is checked
against the source files, without importing them, and applied when vLLM imports the module: vLLM
itself imports model classes only when it needs them. Where the source is another, vLLM is left
untouched and the patch is named.
"""

import ast
import hashlib
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version

from vllm_ascend_bringup.errors import PatchError

MATCHES, OTHER_VERSION, CHANGED, GONE = "matches", "not for this vLLM", "changed", "gone"


@dataclass(frozen=True)
class Patch:
    """One replacement.

    target: ``module:name`` of a function or class at the top of a module. replacement:
    ``module:function`` of ours that takes the original and returns what stands in its place.
    upstream: link to the issue or pull request. versions: of vLLM, as pip writes them. until:
    when it can go. fingerprints: of the sources it was written for.
    """

    name: str
    target: str
    replacement: str
    why: str
    upstream: str
    versions: str
    until: str
    fingerprints: frozenset[str]

    @property
    def module(self) -> str:
        """Module of the target."""
        return self.target.partition(":")[0]

    @property
    def attribute(self) -> str:
        """Name of the target in its module."""
        return self.target.partition(":")[2]


@dataclass(frozen=True)
class Status:
    """Whether a patch fits the installed vLLM. ``found``: the fingerprint there, if any."""

    patch: Patch
    state: str
    found: str | None


def fingerprint(source: str, name: str) -> str | None:
    """Of the definition of ``name`` in a module's source, indentation, empty lines and lines of
    comment aside. None if there is no such definition.

    Of the text, because syntax trees differ from one Python to the next.
    """
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            lines = [line.strip() for line in source.splitlines()[first - 1 : node.end_lineno]]
            code = [line for line in lines if line and not line.startswith("#")]
            return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]
    return None


def check(patch: Patch, vllm_version: str) -> Status:
    """Compare a patch with the installed vLLM's source."""
    if Version(vllm_version).base_version not in SpecifierSet(patch.versions):
        return Status(patch, OTHER_VERSION, None)
    found = _installed_fingerprint(patch)
    if found is None:
        return Status(patch, GONE, None)
    return Status(patch, MATCHES if found in patch.fingerprints else CHANGED, found)


def _installed_fingerprint(patch: Patch) -> str | None:
    package, *rest = patch.module.split(".")
    spec = importlib.util.find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        return None
    file = Path(spec.submodule_search_locations[0], *rest).with_suffix(".py")
    return fingerprint(file.read_text(encoding="utf-8"), patch.attribute) if file.exists() else None


class PatchEngine:
    """Applies patches to modules when they are imported, and takes them back.

    Raises PatchError if two patches have one target.
    """

    def __init__(self, patches: Iterable[Patch]) -> None:
        self._patches: dict[str, Patch] = {}
        self._originals: dict[str, Any] = {}
        for patch in patches:
            other = self._patches.setdefault(patch.target, patch)
            if other is not patch:
                raise PatchError(
                    f"patches {other.name} and {patch.name} both replace {patch.target}",
                    "one patch per target",
                    "put them into one patch",
                )

    def apply(self, vllm_version: str) -> tuple[Status, ...]:
        """Check every patch, and apply those that match: now, or when their module is imported."""
        statuses = tuple(check(patch, vllm_version) for patch in self._patches.values())
        by_module: dict[str, list[Patch]] = {}
        for status in statuses:
            if status.state == MATCHES:
                by_module.setdefault(status.patch.module, []).append(status.patch)
        for module, patches in by_module.items():

            def change(loaded: ModuleType, patches: list[Patch] = patches) -> None:
                for patch in patches:
                    self._replace(loaded, patch)

            _when_imported(module, change)
        return statuses

    def revert(self) -> None:
        """Put back the originals in every module that was changed."""
        for target, original in self._originals.items():
            patch = self._patches[target]
            setattr(sys.modules[patch.module], patch.attribute, original)
        self._originals.clear()

    @property
    def applied(self) -> list[str]:
        """Names of the patches that have taken effect so far."""
        return [self._patches[target].name for target in self._originals]

    def _replace(self, module: ModuleType, patch: Patch) -> None:
        if patch.target in self._originals:
            return
        ours, _, function = patch.replacement.partition(":")
        make: Callable[[Any], Any] = getattr(importlib.import_module(ours), function)
        original = getattr(module, patch.attribute)
        setattr(module, patch.attribute, make(original))
        self._originals[patch.target] = original


def _when_imported(module: str, change: Callable[[ModuleType], None]) -> None:
    if module in sys.modules:
        change(sys.modules[module])
    else:
        _Finder.install().waiting[module] = change


class _Finder(importlib.abc.MetaPathFinder):
    """First in sys.meta_path: lets the others find a module, and changes it once it is loaded."""

    def __init__(self) -> None:
        self.waiting: dict[str, Callable[[ModuleType], None]] = {}
        self._busy = threading.local()

    @classmethod
    def install(cls) -> "_Finder":
        """The one in place, or a new one."""
        for finder in sys.meta_path:
            if isinstance(finder, cls):
                return finder
        finder = cls()
        sys.meta_path.insert(0, finder)
        return finder

    def find_spec(
        self, name: str, path: Any = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name not in self.waiting or getattr(self._busy, "name", None) == name:
            return None
        self._busy.name = name
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._busy.name = None
        if spec is None or spec.loader is None:
            return None
        spec.loader = _Loader(spec.loader, self.waiting.pop(name))
        return spec


class _Loader(importlib.abc.Loader):
    def __init__(self, real: Any, change: Callable[[ModuleType], None]) -> None:
        self._real, self._change = real, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)  # get_source and the like

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._real.create_module(spec)
        return made

    def exec_module(self, module: ModuleType) -> None:
        self._real.exec_module(module)
        self._change(module)


def chosen(patches: Mapping[str, Patch], setting: str) -> list[Patch]:
    """The patches that ``auto``, ``off`` or a list of names asks for. Raises PatchError."""
    if setting in ("auto", "off"):
        return list(patches.values()) if setting == "auto" else []
    names = [name.strip() for name in setting.split(",")]
    unknown = [name for name in names if name not in patches]
    if unknown:
        raise PatchError(
            f"no patch is called {', '.join(unknown)}",
            f"auto, off, or some of {', '.join(patches) or 'none'}",
            "correct VLLM_ASCEND_BRINGUP_PATCHES or unset it",
        )
    return [patches[name] for name in names]
