# SPDX-License-Identifier: Apache-2.0
"""Where recipes come from, and which one counts.

Three sources, the first that has a recipe for an architecture wins: what the user names in
``VLLM_ASCEND_BRINGUP_RECIPES``, other installed packages (entry points of the group
``vllm_ascend_bringup.recipes``), this package. Within one source two recipes for one architecture
are an error; across sources the one set aside is reported.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from importlib.resources import files
from pathlib import Path

from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.recipes.reading import parse_recipe, read_recipe
from vllm_ascend_bringup.recipes.recipe import Recipe

ENTRY_POINTS = "vllm_ascend_bringup.recipes"
PACKAGED, INSTALLED, USERS = "packaged", "installed", "user's"


@dataclass(frozen=True)
class FoundRecipe:
    """A recipe in force. ``origin``: its source; ``replaces``: files of those set aside."""

    recipe: Recipe
    origin: str
    replaces: tuple[str, ...] = ()

    def in_force(self, architecture: str, native: Collection[str]) -> bool:
        """Whether it counts, given the architectures this vLLM has: a packaged recipe that names
        another class gives way to a class of vLLM's own.
        """
        return not (self.origin == PACKAGED and self.recipe.serve_as and architecture in native)


def find_recipes(user_path: Path | None) -> Mapping[str, FoundRecipe]:
    """Architecture -> the recipe in force. Raises RecipeError if any file is malformed."""
    found: dict[str, FoundRecipe] = {}
    sources = (
        (PACKAGED, _packaged()), (INSTALLED, _installed()), (USERS, _users(user_path)),
    )  # fmt: skip
    for origin, recipes in sources:
        for architecture, recipe in _by_architecture(recipes).items():
            before = found.get(architecture)
            replaces = (before.recipe.source, *before.replaces) if before else ()
            found[architecture] = FoundRecipe(recipe, origin, replaces)
    return found


def _by_architecture(recipes: Iterable[Recipe]) -> dict[str, Recipe]:
    made: dict[str, Recipe] = {}
    named = ((name, recipe) for recipe in recipes for name in recipe.architecture)
    for name, recipe in named:
        other = made.setdefault(name, recipe)
        if other is not recipe:
            raise RecipeError(
                f"two recipes for {name}: {other.source} and {recipe.source}",
                "one recipe per architecture and source",
                "remove one of them",
            )
    return made


def _packaged() -> list[Recipe]:
    folder = files("vllm_ascend_bringup").joinpath("recipes")
    entries = sorted(folder.iterdir(), key=lambda entry: entry.name)
    return [
        parse_recipe(entry.read_text(encoding="utf-8"), entry.name)
        for entry in entries
        if entry.name.endswith(".toml")
    ]


def _installed() -> list[Recipe]:
    return [
        recipe
        for entry_point in entry_points(group=ENTRY_POINTS)
        for recipe in _folder_of(entry_point)
    ]


def _folder_of(entry_point: EntryPoint) -> list[Recipe]:
    """The recipes of a package whose entry point names a package with TOML files in it."""
    try:
        folder = files(entry_point.value)
        entries = [e for e in folder.iterdir() if e.name.endswith(".toml")]
        texts = [(entry.name, entry.read_text(encoding="utf-8")) for entry in entries]
    except (ImportError, OSError, TypeError) as error:
        raise RecipeError(
            f"entry point {entry_point.name} = {entry_point.value} of group {ENTRY_POINTS} "
            f"cannot be read ({error})",
            "the name of an importable package that holds *.toml",
            f"repair or uninstall {_distribution(entry_point)}",
        ) from None
    return [parse_recipe(text, f"{entry_point.value}/{name}") for name, text in sorted(texts)]


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "the package that declares it"


def _users(path: Path | None) -> list[Recipe]:
    if path is None:
        return []
    if path.is_dir():
        recipes = [read_recipe(file) for file in sorted(path.glob("*.toml"))]
        if recipes:
            return recipes
    elif path.is_file():
        return [read_recipe(path)]
    raise RecipeError(
        f"VLLM_ASCEND_BRINGUP_RECIPES={path} "
        + ("holds no *.toml" if path.is_dir() else "does not exist"),
        "a recipe, or a folder of recipes",
        "correct the path or unset the variable",
    )
