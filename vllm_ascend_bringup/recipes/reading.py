# SPDX-License-Identifier: Apache-2.0
"""Read a recipe file; whatever is wrong with it is an error with file and line."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.recipes.recipe import Recipe

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""\s*(?:"([^"]+)"|'([^']+)'|([\w-]+))\s*[=.]""")


def read_recipe(file: Path) -> Recipe:
    """Read and validate ``file``. Raises RecipeError."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _refused(str(file), str(error)) from None
    return parse_recipe(text, str(file))


def parse_recipe(text: str, source: str) -> Recipe:
    """The recipe ``text`` says. ``source`` names its file. Raises RecipeError."""
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise _refused(source, f"not TOML: {error}") from None
    if "source" in content:
        raise _refused(f"{source}, line {_line(text, ('source',))}", "unknown key source")
    try:
        return Recipe(source=source, **content)
    except ValidationError as invalid:
        first, *rest = invalid.errors()
        more = f" (and {len(rest)} more)" if rest else ""
        where = f"{source}, line {_line(text, first['loc'])}"
        raise _refused(where, _explained(first) + more) from None


def _explained(error: Any) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key {path}"
    if error["type"] == "missing":
        return f"{path} is missing"
    message = error["msg"].removeprefix("Value error, ")
    return f"{path}: {message}" if path else message


def _refused(where: str, found: str) -> RecipeError:
    return RecipeError(
        f"recipe {where}: {found}",
        "a recipe as docs/recipes.md describes it",
        "correct the file",
    )


def _line(text: str, path: Sequence[str | int]) -> int:
    """The line that ``path`` points at, or the nearest enclosing one; the parser keeps none.

    Reads what recipes hold: tables, arrays of tables, keys at the start of a line. Lines inside
    a multi-line string could pass for keys; then the line named is wrong, never the verdict.
    """
    best, best_depth = 1, 0
    table: tuple[str | int, ...] = ()
    counts: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        header, key = _HEADER.match(line), _KEY.match(line)
        here = table
        if header:
            name = header[2].strip("\"'")
            table = (name,)
            if header[1] == "[[":
                counts[name] = counts.get(name, -1) + 1
                table = (name, counts[name])
            here = table
        elif key:
            here = (*table, next(part for part in key.groups() if part is not None))
        else:
            continue
        depth = len(here)
        if depth > best_depth and here == tuple(path[:depth]):
            best, best_depth = number, depth
    return best
