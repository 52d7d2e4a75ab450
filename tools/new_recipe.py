# SPDX-License-Identifier: Apache-2.0
"""``bringup new``: start the bring-up of an architecture with a recipe and a test of it.

What it cannot see: what ``bringup audit --suggest`` cannot see, which it calls; the drafts are a
start to be read, not a proof.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import read_checkpoint
from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.tools.audit.report import SCHEMA_VERSION, AuditReport
from vllm_ascend_bringup.tools.audit.suggestion import suggest

_TEST = '''\
"""{architecture}, brought up by {recipe}.

Run with: pytest {test}  (MODEL=DIR for another copy of the checkpoint)
"""

import os
from pathlib import Path

import pytest

from vllm_ascend_bringup.tools.audit import audit

RECIPE = Path(__file__).with_name({recipe!r})
MODEL = Path(os.environ.get("MODEL", {model!r}))

pytestmark = pytest.mark.skipif(not MODEL.is_dir(), reason=f"{{MODEL}} is not here")


@pytest.mark.parametrize("tp", [1, 2])
def test_every_tensor_has_its_parameter(tp: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_RECIPES", str(RECIPE))
    report = audit(MODEL, tp)
    assert report.clean, report
    assert not report.warnings
'''


@dataclass(frozen=True)
class NewRecipe:
    """The files written, and the audit with the recipe. ``before``: leftovers without rules."""

    recipe: str
    test: str
    text: str
    before: int
    report: AuditReport

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {
            "schema_version": SCHEMA_VERSION, "command": "new", "recipe": self.recipe,
            "test": self.test, "text": self.text, "leftovers_before": self.before,
            "audit": self.report.to_json(),
        }  # fmt: skip


def new_recipe(architecture: str, model: str | Path, folder: Path) -> NewRecipe:
    """Write ``folder``/<architecture>.toml and its test.

    Raises RecipeError if the checkpoint is of another architecture or a file is there already.
    """
    checkpoint = read_checkpoint(model)
    found = str(checkpoint.config["architectures"][0])
    if found != architecture:
        raise RecipeError(
            f"{checkpoint.path} is a checkpoint of {found}, not of {architecture}",
            "the architecture that its config.json names first",
            f"bringup new {found} --from-model {checkpoint.path}",
        )
    stem = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", architecture).lower()
    recipe, test = folder / f"{stem}.toml", folder / f"test_{stem}.py"
    for file in (recipe, test):
        if file.exists():
            raise RecipeError(f"{file} exists", "a new file", "remove it, or choose --output")
    draft = suggest(model)
    code = _TEST.format(
        architecture=architecture, recipe=recipe.name, test=test.name,
        model=str(checkpoint.path.absolute()),
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    recipe.write_text(draft.recipe, encoding="utf-8")
    test.write_text(code, encoding="utf-8")
    return NewRecipe(str(recipe), str(test), draft.recipe, draft.before, draft.report)
