# SPDX-License-Identifier: Apache-2.0
"""Recipes: what a file may say, which one counts, and what wrong ones are told."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from testkit import write_checkpoint

from vllm_ascend_bringup.errors import RecipeError
from vllm_ascend_bringup.recipes.reading import parse_recipe
from vllm_ascend_bringup.recipes.recipe import Recipe
from vllm_ascend_bringup.recipes.rules import Rule, idle_rules, rename, rename_all, steps
from vllm_ascend_bringup.recipes.sources import INSTALLED, PACKAGED, USERS, find_recipes
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm

PACKAGED_ARCHITECTURES = {
    "AquilaForCausalLM", "AquilaModel", "BaiChuanForCausalLM", "BaichuanForCausalLM",
    "Fairseq2LlamaForCausalLM", "InternLMForCausalLM", "LlavaForConditionalGeneration",
    "QWenLMHeadModel", "RWForCausalLM", "StableLMEpochForCausalLM", "XverseForCausalLM",
}  # fmt: skip


def recipe(body: str = "", architecture: str = "A") -> Recipe:
    return parse_recipe(f'architecture = "{architecture}"\n{body}', "r.toml")


WRONG = {
    "syntax": ("a = = 1", r"not TOML: .*line 2"),
    "unknown-key": ('serves = "X"', r"line 2: unknown key serves"),
    "source": ('source = "X"', r"line 2: unknown key source"),
    "unknown-key-of-rule": (
        '\n[[rule]]\nprefix = "a"\nto = "b"\n\n[[rule]]\nprefix = "c"\nto = "d"\nwhy = "e"',
        r"line 10: unknown key rule\.1\.why",
    ),
    "two-kinds": ('[[rule]]\nprefix = "a"\nsuffix = "b"\nto = "c"', r"line 2: .*exactly one of"),
    "no-kind": ('[[rule]]\nto = "c"', r"line 2: .*exactly one of prefix, suffix, substring, regex"),
    "empty": ('[[rule]]\nprefix = ""\nto = "c"', r"exactly one of"),
    "neither": ('[[rule]]\nprefix = "a"', r"either to = .* or drop = true"),
    "both": ('[[rule]]\nprefix = "a"\nto = "b"\ndrop = true', r"either to = .* or drop = true"),
    "regex": ('[[rule]]\nregex = "("\nto = "b"', r"bad regular expression"),
    "group": ("[[rule]]\nregex = 'a'\nto = '\\1'", r"bad regular expression: invalid group"),
    "twice": ('[[rule]]\nprefix = "a"\nto = "b"\n[[rule]]\nprefix = "a"\nto = "c"',
              r"more than one rule for prefix 'a'"),
    "type": ('min_vllm = 0.32', r"line 2: min_vllm: .*string"),
    "version": ('min_vllm = "soon"', r"line 2: min_vllm: .*soon"),
    "qk-norm": ('qk_norm = "sometimes"', r"line 2: qk_norm: .*per head"),
    "override": ('[config]\na = { was = 1 }', r"line 3: config\.a: .*now, copy_of, remove"),
    "override-two": ('[config]\na = { now = 1, copy_of = "b" }', r"exactly one of now"),
    "override-was": ('[config]\na = { was = 1, was_one_of = [1], now = 2 }', r"only one of was"),
    "override-divided": ('[config]\na = { now = 1, divided_by = 2 }', r"divided_by goes with"),
    "split": ('[[split]]\nsubstring = "a"\ninto = ["b", "c"]\nrows = "qkv"', r"three pieces"),
    "split-rows": ('[[split]]\nsubstring = "a"\ninto = ["b", "c"]\nrows = "odd"', r"line 5: split"),
    "empty-name": ('serve_as = ""', r"line 2: serve_as"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_wrong_file_is_refused_with_its_line(name: str) -> None:
    body, message = WRONG[name]
    with pytest.raises(RecipeError, match=message) as error:
        recipe(body)
    assert "r.toml" in error.value.found


def test_architecture_is_needed() -> None:
    with pytest.raises(RecipeError, match=r"r\.toml, line 1: architecture is missing"):
        parse_recipe('serve_as = "X"', "r.toml")


CONFIG = {"model_type": "old", "size": 10, "kind": "big", "eps": 1e-6}
OVERRIDES: dict[str, tuple[str, dict[str, Any]]] = {
    "was": ('model_type = { was = "old", now = "new" }', {"model_type": "new"}),
    "absent": ("more = { now = 1 }", {"more": 1}),
    "one-of": ('model_type = { was_one_of = ["x", "old"], now = "new" }', {"model_type": "new"}),
    "copy": ('rms = { copy_of = "eps" }', {"rms": 1e-6}),
    "halved": ('size = { copy_of = "size", divided_by = 2 }', {"size": 5}),
    "table": ('wide = { copy_of = "kind", table = { big = true, small = false } }', {"wide": True}),
    "optional": ('a = { copy_of = "b", optional = true }', {}),
    "if-absent": ("size = { now = 3, if_absent = true }", {"size": 10}),
    "if-absent-and-is": ("more = { now = 3, if_absent = true }", {"more": 3}),
    "old-values-are-copied": (
        'size = { was = 10, now = 4 }\ncopy = { copy_of = "size" }', {"size": 4, "copy": 10},
    ),
}  # fmt: skip
REFUSED = {
    "was": ('model_type = { was = "other", now = "new" }', r"model_type is 'old'.*states: 'other'"),
    "was-gone": ("more = { was = 1, now = 2 }", r"more is not there.*states: 1"),
    "is-there": ("size = { now = 3 }", r"size is 10 in config\.json.*states: not there"),
    "one-of": ('kind = { was_one_of = ["a", "b"], now = "c" }', r"kind is 'big'.*\['a', 'b'\]"),
    "copy": ('rms = { copy_of = "epsilon" }', r"copy of epsilon, which config\.json lacks"),
    "odd": ('size = { copy_of = "size", divided_by = 3 }', r"size is 10.*multiple of 3"),
    "table": ('w = { copy_of = "kind", table = { small = 1 } }', r"kind is 'big'.*one of small"),
}


@pytest.mark.parametrize("name", OVERRIDES)
def test_override(name: str) -> None:
    body, changes = OVERRIDES[name]
    before = dict(CONFIG)
    assert recipe("[config]\n" + body).changed_config(CONFIG) == {**CONFIG, **changes}
    assert before == CONFIG


def test_remove_and_config_of() -> None:
    nested = {"architectures": ["A"], "dtype": "bfloat16", "text_config": {"size": 1, "gone": 2}}
    body = 'config_of = "text_config"\n[config]\ngone = { was = 2, remove = true }'
    assert recipe(body).changed_config(nested) == {"dtype": "bfloat16", "size": 1}
    with pytest.raises(RecipeError, match="no table text_config"):
        recipe(body).changed_config(CONFIG)


@pytest.mark.parametrize("name", REFUSED)
def test_override_that_does_not_fit_is_an_error(name: str) -> None:
    body, message = REFUSED[name]
    with pytest.raises(RecipeError, match=message):
        recipe("[config]\n" + body).changed_config(CONFIG)


RULES = (
    Rule(prefix="a.", to="b."), Rule(substring=".x.", to=".y."), Rule(suffix=".g", to=".weight"),
    Rule(regex=r"\.(\d+)\.h", to=r".h.\1"), Rule(prefix="drop.", drop=True),
)  # fmt: skip


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("a.a.1", "b.a.1"), ("aa.1", "aa.1"), ("q.x.x.x.1", "q.y.x.x.1"), ("n.g", "n.weight"),
        ("n.g.g2", "n.g.g2"), ("l.12.h.w", "l.h.12.w"), ("drop.a", None), ("a.x.g", "b.y.weight"),
        ("b.", "b."), ("a.b\\1", "b.b\\1"),
    ],
)  # fmt: skip
def test_rules_in_order(key: str, expected: str | None) -> None:
    assert rename(RULES, key) == expected
    made = steps(RULES, key)
    assert (made[-1][1] if made else key) == expected


_PART = st.text("ab.\\", min_size=1, max_size=4)
_RULES = st.lists(
    st.builds(
        lambda kind, text, to: Rule(**{kind: text, "drop" if to is None else "to": to or True}),
        st.sampled_from(["prefix", "suffix", "substring"]), _PART,
        st.one_of(st.none(), _PART),
    ),
    max_size=4, unique_by=lambda rule: rule.pattern.pattern,
)  # fmt: skip


@settings(max_examples=300, deadline=None, derandomize=True)
@given(rules=_RULES, key=st.text("ab.\\", max_size=8))
def test_vllms_mapper_does_the_same(rules: list[Rule], key: str) -> None:
    from vllm.model_executor.models.utils import WeightsMapper

    mapper = WeightsMapper(orig_to_new_regex={r.pattern: r.replacement for r in rules})
    expected: str | None = key
    for rule in rules:
        if expected is None:
            break
        if rule.prefix is not None and expected.startswith(rule.prefix):
            expected = None if rule.drop else f"{rule.to}{expected[len(rule.prefix) :]}"
        elif rule.suffix is not None and expected.endswith(rule.suffix):
            expected = None if rule.drop else f"{expected[: -len(rule.suffix)]}{rule.to}"
        elif rule.substring is not None and rule.substring in expected:
            expected = None if rule.drop else expected.replace(rule.substring, str(rule.to), 1)
    assert rename(rules, key) == expected
    assert mapper.apply_list([key]) == ([] if expected is None else [expected])


def test_two_keys_with_one_name_are_an_error() -> None:
    with pytest.raises(RecipeError, match=r"r\.toml: a\.1 and b\.1 both become b\.1"):
        rename_all(RULES, ["a.1", "b.1"], "r.toml")


def test_pieces_with_the_name_of_another_tensor_are_an_error() -> None:
    import torch

    from vllm_ascend_bringup.recipe_hooks import renamed

    split = recipe('[[split]]\nsubstring = ".gu."\ninto = [".g.", ".u."]\nrows = "equal"')
    stream = iter([("a.u.w", torch.zeros(2, 2)), ("a.gu.w", torch.zeros(4, 2))])
    with pytest.raises(RecipeError, match=r"r\.toml: a\.u\.w and a\.gu\.w both become a\.u\.w"):
        list(renamed(stream, split, None))


def test_rows_that_do_not_divide_are_an_error() -> None:
    import torch

    from vllm_ascend_bringup.recipe_hooks import renamed

    split = recipe('[[split]]\nsubstring = ".gu."\ninto = [".g.", ".u."]\nrows = "equal"')
    with pytest.raises(RecipeError, match=r"a\.gu\.w has 5 rows"):
        list(renamed(iter([("a.gu.w", torch.zeros(5, 2))]), split, None))


def test_rule_that_matches_nothing_names_the_nearest_keys() -> None:
    keys = [f"model.layers.{n}.self_attn.q_proj.weight" for n in range(9)] + ["lm_head.weight"]
    (line,) = idle_rules(
        [Rule(prefix="model.layer.", to="x."), Rule(prefix="absent.", to="y.", optional=True)], keys
    )
    assert line.startswith("prefix 'model.layer.' to 'x.' matches nothing; nearest: model.layers.0")


def test_rule_sees_what_earlier_rules_left() -> None:
    rules = [Rule(prefix="a.", to="b."), Rule(prefix="a.", to="c.", optional=False)]
    assert len(idle_rules(rules, ["a.1"])) == 1
    assert idle_rules([Rule(prefix="a.", to="b."), Rule(prefix="b.", to="c.")], ["a.1"]) == []


def test_packaged_recipes_serve_what_vllm_lacks() -> None:
    found = find_recipes(None)
    assert set(found) == PACKAGED_ARCHITECTURES
    for entry in found.values():
        target = entry.recipe.serve_as
        assert entry.origin == PACKAGED
        known = target is None or ":" in target or target in installed_vllm().architectures
        assert known, entry.recipe.source


@pytest.fixture
def own(tmp_path: Path) -> Path:
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "x.toml").write_text('architecture = "XverseForCausalLM"\nserve_as = "m:C"\n')
    return folder


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_users_recipe_wins_and_says_what_it_replaces(own: Path, kind: str) -> None:
    found = find_recipes(own if kind == "folder" else own / "x.toml")
    entry = found["XverseForCausalLM"]
    assert (entry.origin, entry.recipe.serve_as, entry.replaces) == (USERS, "m:C", ("xverse.toml",))
    assert set(found) == PACKAGED_ARCHITECTURES


def test_two_recipes_of_one_source_are_an_error(own: Path) -> None:
    (own / "y.toml").write_text('architecture = ["Other", "XverseForCausalLM"]\n')
    with pytest.raises(RecipeError, match=r"two recipes for XverseForCausalLM: .*x\.toml and .*y"):
        find_recipes(own)


@pytest.mark.parametrize(("path", "message"), [("none", "does not exist"), ("empty", "no .*toml")])
def test_users_path_that_holds_no_recipe_is_an_error(
    tmp_path: Path, path: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(RecipeError, match=message):
        find_recipes(tmp_path / path)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An installed package with a recipe, by its entry point."""
    folder = tmp_path / "acme_recipes"
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "acme.toml").write_text('architecture = "QWenLMHeadModel"\nserve_as = "m:D"\n')
    info = tmp_path / "acme-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[vllm_ascend_bringup.recipes]\nacme = acme_recipes\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    yield folder
    sys.modules.pop("acme_recipes", None)


def test_installed_packages_bring_recipes(package: Path, own: Path) -> None:
    entry = find_recipes(own)["QWenLMHeadModel"]
    assert (entry.origin, entry.recipe.serve_as) == (INSTALLED, "m:D")
    assert entry.recipe.source == "acme_recipes/acme.toml"
    (own / "q.toml").write_text('architecture = "QWenLMHeadModel"\nserve_as = "m:E"\n')
    entry = find_recipes(own)["QWenLMHeadModel"]
    assert (entry.origin, entry.recipe.serve_as) == (USERS, "m:E")
    assert entry.replaces == ("acme_recipes/acme.toml", "qwen.toml")


def test_entry_point_that_cannot_be_read_is_an_error(package: Path) -> None:
    (package.parent / "acme-1.dist-info" / "entry_points.txt").write_text(
        "[vllm_ascend_bringup.recipes]\nacme = nowhere\n"
    )
    with pytest.raises(RecipeError, match=r"acme = nowhere .*cannot be read"):
        find_recipes(None)


REGISTER = "from vllm_ascend_bringup.plugin import register; print(register())"
UNUSABLE = {
    "unknown-class": ('serve_as = "NoSuchForCausalLM"', r"has no class NoSuchForCausalLM"),
    "no-class": ("", r"has no class A\b.*serve_as"),
    "old-vllm": ('serve_as = "LlamaForCausalLM"\nmin_vllm = "99"', r"vLLM 99 or later"),
}


@pytest.mark.parametrize("name", UNUSABLE)
def test_recipe_this_vllm_cannot_serve_stops_the_start(name: str, tmp_path: Path) -> None:
    body, message = UNUSABLE[name]
    (tmp_path / "r.toml").write_text(f'architecture = "A"\n{body}\n')
    done = subprocess.run(
        [sys.executable, "-c", REGISTER], capture_output=True, text=True, check=False,
        env={**os.environ, "VLLM_ASCEND_BRINGUP_RECIPES": str(tmp_path / "r.toml")},
    )  # fmt: skip
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-1]
    assert "RecipeError" in last
    assert re.search(message, last), last


def bringup(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(Path(sys.executable).with_name("bringup")), *arguments], capture_output=True,
        text=True, check=False, env={**os.environ, "COLUMNS": "200", **environment},
    )  # fmt: skip


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    import torch

    names = ["transformer.h.0.attn.c_attn.weight", "transformer.wte.weight", "lm_head.weight"]
    config = {"architectures": ["QWenLMHeadModel"], "model_type": "qwen"}
    return write_checkpoint(tmp_path / "qwen", {name: torch.zeros(2, 2) for name in names}, config)


def test_explain_shows_rule_by_rule(qwen: Path) -> None:
    key = "transformer.h.0.attn.c_attn.weight"
    done = bringup("recipes", "explain", key, "--model", str(qwen), "--json")
    content: dict[str, Any] = json.loads(done.stdout)
    assert [step["key"] for step in content["steps"]] == [
        "model.layers.0.attn.c_attn.weight", "model.layers.0.self_attn.qkv_proj.weight",
    ]  # fmt: skip
    assert content["result"] == ["model.layers.0.self_attn.qkv_proj.weight"]
    assert any("'.ln_1.'" in warning for warning in content["warnings"])
    text = bringup("recipes", "explain", key, "--model", str(qwen)).stdout
    assert "-> model.layers.0.self_attn.qkv_proj.weight" in text


def test_explain_knows_no_such_key(qwen: Path) -> None:
    done = bringup("recipes", "explain", "transformer.wte.weigth", "--model", str(qwen))
    assert done.returncode == 9
    assert "nearest: " in done.stderr
    assert "transformer.wte.weight" in done.stderr
    assert "Traceback" not in done.stderr


def test_list_names_every_recipe(own: Path) -> None:
    done = bringup("recipes", "list", "--json", VLLM_ASCEND_BRINGUP_RECIPES=str(own))
    lines = {line["architecture"]: line for line in json.loads(done.stdout)["recipes"]}
    assert set(lines) == PACKAGED_ARCHITECTURES
    assert lines["XverseForCausalLM"]["replaces"] == ["xverse.toml"]
    assert "in force" in bringup("recipes", "list").stdout


def test_bad_recipe_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('architecture = "A"\nserves = "B"\n')
    done = bringup("recipes", "list", VLLM_ASCEND_BRINGUP_RECIPES=str(tmp_path / "r.toml"))
    assert done.returncode == 9
    assert "line 2: unknown key serves" in done.stderr
    assert "Traceback" not in done.stderr
