# SPDX-License-Identifier: Apache-2.0
"""Apply patches when vLLM imports what they replace, and take them back.

vLLM itself imports model classes only when it needs them. Where a source is another than a patch
was written for, vLLM is left untouched and the patch is named.
"""

import functools
import importlib.abc
import importlib.util
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from vllm_ascend_bringup.errors import PatchError
from vllm_ascend_bringup.patching import MATCHES, Patch, Status, check


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
                m for n, m in list(sys.modules.items()) if n.startswith(patch.package + ".")
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
