# SPDX-License-Identifier: Apache-2.0
"""Renamed checkpoints, each brought up by a short recipe; the audit finds three by itself."""

from pathlib import Path

import pytest
from engine_kit import Generation, prompts, run_engine
from renamed_models import RENAMED, VOCABULARY, Pair, write_pair

from vllm_ascend_bringup.recipes.reading import read_recipe
from vllm_ascend_bringup.tools.audit import audit
from vllm_ascend_bringup.tools.audit.suggestion import suggest

pytestmark = pytest.mark.engine
_FOUND_BY_ITSELF = ("prefix", "gpt-names", "architecture")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    return {name: write_pair(name, tmp_path_factory.mktemp(name)) for name in RENAMED}


@pytest.fixture(scope="module")
def twins(pairs: dict[str, Pair]) -> dict[str, Generation]:
    given = prompts(VOCABULARY, 4)
    return {name: run_engine(pair.twin, given, tokens=8) for name, pair in pairs.items()}


def serve(checkpoint: Path, recipe: Path, tp: int = 1) -> Generation:
    environment = {"VLLM_ASCEND_BRINGUP_RECIPES": str(recipe)}
    given = prompts(VOCABULARY, 4)
    return run_engine(checkpoint, given, tp=tp, tokens=8, environment=environment)


@pytest.mark.parametrize("name", RENAMED)
def test_recipe_is_short(name: str) -> None:
    assert len(RENAMED[name].recipe.splitlines()) < 15


# The other two are served by what --suggest drafts, which is as short.
@pytest.mark.parametrize("name", ["gpt-names", "fused", "stacked", "text-only"])
def test_served_by_a_short_recipe(
    name: str, pairs: dict[str, Pair], twins: dict[str, Generation]
) -> None:
    found = serve(pairs[name].renamed, pairs[name].recipe)
    assert (found.tokens, found.logprobs) == (twins[name].tokens, twins[name].logprobs)


@pytest.mark.parametrize("name", _FOUND_BY_ITSELF)
def test_suggest_finds_it(
    name: str, pairs: dict[str, Pair], twins: dict[str, Generation], tmp_path: Path
) -> None:
    draft = suggest(pairs[name].renamed, tmp_path / "draft.toml")
    assert draft.report.clean, draft
    wanted = read_recipe(pairs[name].recipe)
    found = read_recipe(tmp_path / "draft.toml")
    assert len(found.rule) <= len(wanted.rule)
    assert found.serve_as == wanted.serve_as
    served = serve(pairs[name].renamed, tmp_path / "draft.toml")
    assert (served.tokens, served.logprobs) == (twins[name].tokens, twins[name].logprobs)


@pytest.mark.parametrize("name", ["prefix", "gpt-names", "fused"])
def test_audit_without_the_recipe_names_both_sides(name: str, pairs: dict[str, Pair]) -> None:
    report = audit(pairs[name].renamed)
    assert report.exit_code == 6
    assert report.missing
    assert report.unexpected
    if name == "prefix":
        (nearest,) = {f.nearest[0] for f in report.unexpected if "q_proj" in f.names}
        assert nearest == "model.layers.0.self_attn.q_proj.weight"


def test_audit_with_the_recipe_is_clean(
    pairs: dict[str, Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VLLM_ASCEND_BRINGUP_RECIPES", str(pairs["fused"].recipe))
    report = audit(pairs["fused"].renamed, tp=2)
    assert report.clean, report
