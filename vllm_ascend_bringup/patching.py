# SPDX-License-Identifier: Apache-2.0
"""Patches of vLLM and vllm-ascend: the last resort, where there is no hook.

A patch states what it replaces and a fingerprint of the source it expects there. It is checked
against the source files, without importing them, and applied when vLLM imports the module: vLLM
itself imports model classes only when it needs them. Where the source is another, vLLM is left
untouched and the patch is named.
"""

import ast
import functools
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

MATCHES, OTHER_VERSION, CHANGED, GONE, ABSENT = (
    "matches", "not for this version", "changed", "gone", "not installed"
)  # fmt: skip


@dataclass(frozen=True)
class Patch:
    """One replacement.

    target: ``module:name`` of a function or class, or ``module:Class.method``. replacement:
    ``module:function`` of ours that takes the original and returns what stands in its place.
    upstream: link to the issue or the lines. versions: of the package, as pip writes them. until:
    when it can go. fingerprints: of the sources it was written for. builds_on: other names of the
    module whose sources count too. shared_kv_heads: the architectures that cannot have more ranks
    than KV heads without it. setting: of their config; they can, where it is false or absent.
    """

    name: str
    target: str
    replacement: str
    why: str
    upstream: str
    versions: str
    until: str
    fingerprints: frozenset[str]
    builds_on: tuple[str, ...] = ()
    shared_kv_heads: tuple[str, ...] = ()
    setting: str | None = None

    @property
    def package(self) -> str:
        """``vllm`` or ``vllm_ascend``."""
        return self.target.partition(".")[0]

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
    """Whether a patch fits what is installed. ``found``: the fingerprint there, if any."""

    patch: Patch
    state: str
    found: str | None


def fingerprint(source: str, *names: str) -> str | None:
    """Of definitions in a module's source, indentation, empty lines and lines of comment aside.

    None if one of them is not there. Of the text, because syntax trees differ from one Python to
    the next.
    """
    code: list[str] = []
    body = ast.parse(source).body
    for name in names:
        node = _definition(body, name)
        if node is None:
            return None
        first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
        lines = [line.strip() for line in source.splitlines()[first - 1 : node.end_lineno]]
        code += [line for line in lines if line and not line.startswith("#")]
    return hashlib.sha256("\n".join(code).encode()).hexdigest()[:16]


def _definition(body: list[ast.stmt], name: str) -> ast.FunctionDef | ast.ClassDef | None:
    outer, _, inner = name.partition(".")
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == outer:
            return _definition(node.body, inner) if inner else node
    return None


def installed_versions() -> dict[str, str | None]:
    """Of vllm and vllm_ascend, those that are here; None if the source does not say."""
    found: dict[str, str | None] = {}
    for package in ("vllm", "vllm_ascend"):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.submodule_search_locations:
            found[package] = source_version(Path(spec.submodule_search_locations[0]))
    return found


def source_version(folder: Path) -> str | None:
    """What ``_version.py`` of a package says; reading it is faster than importing the package."""
    file = folder / "_version.py"
    nodes = ast.parse(file.read_text(encoding="utf-8")).body if file.exists() else []
    for node in nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            names = {target.id for target in node.targets if isinstance(target, ast.Name)}
            if names & {"version", "__version__"}:
                return str(node.value.value)
    return None


def check(patch: Patch, versions: Mapping[str, str | None]) -> Status:
    """Compare a patch with the installed source. ``versions``: of packages; None if unknown."""
    if patch.package not in versions:
        return Status(patch, ABSENT, None)
    version = versions[patch.package]
    # A checkout may not say which version it is; then the fingerprint decides alone.
    if version and Version(version).base_version not in SpecifierSet(patch.versions):
        return Status(patch, OTHER_VERSION, None)
    found = _installed_fingerprint(patch)
    if found is None:
        return Status(patch, GONE, None)
    return Status(patch, MATCHES if found in patch.fingerprints else CHANGED, found)


def _installed_fingerprint(patch: Patch) -> str | None:
    spec = importlib.util.find_spec(patch.package)
    if spec is None or not spec.submodule_search_locations:
        return None
    rest = patch.module.split(".")[1:]
    file = Path(spec.submodule_search_locations[0], *rest).with_suffix(".py")
    if not file.exists():
        return None
    return fingerprint(file.read_text(encoding="utf-8"), patch.attribute, *patch.builds_on)


class PatchEngine:
    """Applies patches to modules when they are imported, and takes them back.

    ``refuse`` is told about each that does not fit, when its module is imported. Raises PatchError
    if two patches have one target.
    """

    def __init__(self, patches: Iterable[Patch], refuse: Callable[[Status], None]) -> None:
        self._patches: dict[str, Patch] = {}
        # Target -> the original, and the modules and classes it stood in, with its name there.
        self._replaced: dict[str, tuple[Any, list[tuple[Any, str]]]] = {}
        self._refuse = refuse
        for patch in patches:
            other = self._patches.setdefault(patch.target, patch)
            if other is not patch:
                raise PatchError(
                    f"patches {other.name} and {patch.name} both replace {patch.target}",
                    "one patch per target",
                    "put them into one patch",
                )

    def apply(self, versions: Mapping[str, str | None]) -> None:
        """Apply what fits: now to modules that are here, to others when they are imported.

        Only then is the source compared: reading all of them would delay every process.
        """
        by_module: dict[str, list[Patch]] = {}
        for patch in self._patches.values():
            if patch.package in versions:
                by_module.setdefault(patch.module, []).append(patch)
        for module, patches in by_module.items():

            def change(loaded: ModuleType, patches: list[Patch] = patches) -> None:
                for patch in patches:
                    status = check(patch, versions)
                    if status.state == MATCHES:
                        self._replace(loaded, patch)
                    else:
                        self._refuse(status)

            _when_imported(module, change)

    def revert(self) -> None:
        """Put back the originals wherever they were replaced."""
        for original, places in self._replaced.values():
            for holder, name in places:
                setattr(holder, name, original)
        self._replaced.clear()

    @property
    def applied(self) -> list[str]:
        """Names of the patches that have taken effect so far."""
        return [self._patches[target].name for target in self._replaced]

    def _replace(self, module: ModuleType, patch: Patch) -> None:
        if patch.target in self._replaced:
            return
        ours, _, function = patch.replacement.partition(":")
        make: Callable[[Any], Any] = getattr(importlib.import_module(ours), function)
        *owners, name = patch.attribute.split(".")
        owner: Any = functools.reduce(getattr, owners, module)
        original = getattr(owner, name)
        holders: list[Any] = [owner]
        if not owners:
            # Classes of its module may name it as one of theirs, and other modules of the package
            # may have imported it before any plugin was loaded.
            holders += [value for value in vars(module).values() if isinstance(value, type)]
            holders += [
                m for n, m in sys.modules.items() if n.startswith(patch.package + ".")
                and m is not module
            ]  # fmt: skip
        places = [
            (holder, name)
            for holder in holders
            for name, value in list(vars(holder).items())
            if value is original
        ]
        replacement = make(original)
        for holder, name in places:
            setattr(holder, name, replacement)
        self._replaced[patch.target] = (original, places)


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
