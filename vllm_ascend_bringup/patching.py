# SPDX-License-Identifier: Apache-2.0
"""Patches of vLLM and vllm-ascend, the last resort where there is no hook: do they fit?

A patch states what it replaces and a fingerprint of the source it expects there, which is compared
with the source files, without importing them.
"""

import ast
import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

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
    wrong_without: the architectures that answer wrongly without it, at any tensor-parallel size.
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
    wrong_without: tuple[str, ...] = ()

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
