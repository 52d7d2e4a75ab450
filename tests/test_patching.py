# SPDX-License-Identifier: Apache-2.0
"""The patch engine, on a package of the test's own that stands for vLLM."""

import importlib
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vllm_ascend_bringup.errors import PatchError
from vllm_ascend_bringup.patch_engine import PatchEngine
from vllm_ascend_bringup.patching import (
    ABSENT,
    CHANGED,
    GONE,
    MATCHES,
    OTHER_VERSION,
    Patch,
    Status,
    check,
    chosen,
    fingerprint,
)

ROOT = Path(__file__).resolve().parents[1]
SOURCE = '''"""A module of the package."""

def twice(x):
    # Comments do not count.
    return 2 * x

def user(x):
    return twice(x)

class Namer:
    function = twice

    def thrice(self, x):
        return 3 * x

class Inner(Namer):
    pass
'''
OURS = """
def thrice(original):
    def twice(x):
        return original(x) + x
    return twice

def one_more(original):
    return lambda self, x: original(self, x) + 1
"""
PRINT = fingerprint(SOURCE, "twice")
PATCH = Patch(
    name="thrice", target="engine_under_test.inner.module:twice",
    replacement="ours_under_test:thrice", why="w", upstream="u", versions=">=1,<=2", until="never",
    fingerprints=frozenset({str(PRINT)}),
)  # fmt: skip


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    inner = tmp_path / "engine_under_test" / "inner"
    inner.mkdir(parents=True)
    (inner.parent / "__init__.py").touch()
    (inner / "__init__.py").touch()
    (inner / "module.py").write_text(SOURCE)
    (tmp_path / "ours_under_test.py").write_text(OURS)
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield inner / "module.py"
    for name in [n for n in sys.modules if "_under_test" in n]:
        del sys.modules[name]


def imported() -> Any:
    return importlib.import_module("engine_under_test.inner.module")


def versions(version: str | None = "1.5") -> dict[str, str | None]:
    return {"engine_under_test": version}


def started() -> tuple[PatchEngine, list[Status]]:
    """An engine that was told to apply, and what it refused so far."""
    refused: list[Status] = []
    engine = PatchEngine([PATCH], refused.append)
    engine.apply(versions())
    return engine, refused


def test_applies_when_the_module_is_imported_and_not_before(package: Path) -> None:
    engine, refused = started()
    assert "engine_under_test" not in sys.modules or "engine_under_test.inner.module" not in (
        sys.modules
    )
    assert engine.applied == []
    assert imported().user(5) == 15
    assert engine.applied == ["thrice"]
    assert refused == []


def test_applies_to_a_module_that_is_imported_already(package: Path) -> None:
    module = imported()
    started()
    assert module.user(5) == 15


def test_applies_wherever_it_was_imported_by_name(package: Path) -> None:
    (package.parent / "other.py").write_text("from .module import twice as doubled\n")
    other: Any = importlib.import_module("engine_under_test.inner.other")
    module, original = imported(), other.doubled
    engine, _ = started()
    assert other.doubled is module.twice is module.Namer.function
    assert other.doubled(5) == 15
    engine.revert()
    assert other.doubled is module.twice is module.Namer.function is original


def test_a_method_is_replaced_for_subclasses_too(package: Path) -> None:
    found = fingerprint(SOURCE, "Namer.thrice")
    patch = replace(
        PATCH, target="engine_under_test.inner.module:Namer.thrice",
        replacement="ours_under_test:one_more", fingerprints=frozenset({str(found)}),
    )  # fmt: skip
    module = imported()
    original = module.Namer.thrice
    engine = PatchEngine([patch], print)
    engine.apply(versions())
    assert module.Inner().thrice(5) == 16
    engine.revert()
    assert module.Namer.thrice is original
    package.write_text(SOURCE.replace("3 * x", "x + x + x"))
    assert check(patch, versions()).state == CHANGED
    package.write_text(SOURCE.replace("def thrice", "def triple"))
    assert check(patch, versions()).state == GONE


def test_other_definitions_that_it_builds_on_count(package: Path) -> None:
    both = fingerprint(SOURCE, "twice", "user")
    assert both not in {PRINT, fingerprint(SOURCE, "user"), None}
    patch = replace(PATCH, builds_on=("user",), fingerprints=frozenset({str(both)}))
    assert check(patch, versions()).state == MATCHES
    package.write_text(SOURCE.replace("return twice(x)", "return twice(x) + 0"))
    assert check(patch, versions()).state == CHANGED
    assert fingerprint(SOURCE, "twice", "nothing") is None


def test_revert_restores_identity(package: Path) -> None:
    module = imported()
    original = module.twice
    engine, _ = started()
    engine.apply(versions())  # a second time changes nothing
    assert module.twice is not original
    engine.revert()
    assert module.twice is original
    assert module.user(5) == 10
    assert engine.applied == []


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (("# Comments do not count.", "# Others neither."), MATCHES),
        (("    return 2 * x", "\n    return 2 * x"), MATCHES),
        (("return 2 * x", "return x + x"), CHANGED),
        (("def twice(x)", "@cache\ndef twice(x)"), CHANGED),
        (("def twice(", "def double("), GONE),
    ],
    ids=["comment", "empty-line", "body", "decorator", "name"],
)
def test_source_is_compared(package: Path, change: tuple[str, str], state: str) -> None:
    package.write_text(SOURCE.replace(*change))
    status = check(PATCH, versions())
    assert status.state == state
    assert (status.found == PRINT) is (state == MATCHES)


def test_changed_source_is_left_untouched(package: Path) -> None:
    package.write_text(SOURCE.replace("2 * x", "x + x"))
    engine, refused = started()
    assert refused == []  # it was not looked at yet
    assert imported().user(5) == 10
    assert engine.applied == []
    assert [(status.patch.name, status.state) for status in refused] == [("thrice", CHANGED)]
    assert refused[0].found not in {None, PRINT}


def test_module_that_is_not_there(package: Path) -> None:
    assert check(replace(PATCH, target="engine_under_test.no:x"), versions()).state == GONE
    assert check(replace(PATCH, target="no_such_package.no:x"), versions()).state == ABSENT


@pytest.mark.parametrize(
    ("version", "state"),
    [("0.9", OTHER_VERSION), ("1", MATCHES), ("2", MATCHES), ("2.0+cpu", MATCHES),
     ("2.1", OTHER_VERSION), ("1.5.dev3", MATCHES), (None, MATCHES)],
)  # fmt: skip
def test_versions(package: Path, version: str | None, state: str) -> None:
    assert check(PATCH, versions(version)).state == state


def test_two_patches_of_one_target_are_an_error() -> None:
    with pytest.raises(PatchError, match=r"thrice and other both replace engine_under_test"):
        PatchEngine([PATCH, replace(PATCH, name="other")], print)


def test_choosing() -> None:
    patches = {"a": replace(PATCH, name="a"), "b": replace(PATCH, name="b")}
    assert [p.name for p in chosen(patches, "auto")] == ["a", "b"]
    assert chosen(patches, "off") == []
    assert [p.name for p in chosen(patches, "b, a")] == ["b", "a"]
    with pytest.raises(PatchError, match=r"no patch is called c\. Expected: auto, off, or .* a, b"):
        chosen(patches, "a,c")
