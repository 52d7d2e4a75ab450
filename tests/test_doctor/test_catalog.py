# SPDX-License-Identifier: Apache-2.0
"""The catalogue: every rule is listed, complete, silent without facts, and in both languages."""

import ast
import inspect
import re
import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
from doctor_kit import known

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor import judge
from vllm_ascend_bringup.tools.doctor.base import Rule
from vllm_ascend_bringup.tools.doctor.catalog import RULES
from vllm_ascend_bringup.tools.doctor.facts import Facts
from vllm_ascend_bringup.tools.doctor.rules import npu_smi

DOCTOR = Path(__file__).resolve().parents[2] / "tools" / "doctor"
FILES = sorted(file.stem for file in (DOCTOR / "rules").glob("*.py") if file.stem != "__init__")
RULE_IDS = [rule.id for rule in RULES]
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# Half-width punctuation against a Chinese character.
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;:!?(]|[,;!?)][\u4e00-\u9fff]")
# Three English words in a row are a phrase, unless they are a command line or a name.
PHRASE = re.compile(r"\b[a-z]{2,} [a-z]{2,} [a-z]{2,}\b")
COMMANDS = ("pip install", "pip uninstall", "bringup", "npu-smi", "mount", "python", "source")


def test_every_file_is_listed_under_its_own_name() -> None:
    assert sorted(RULE_IDS) == sorted(stem.replace("_", "-") for stem in FILES)
    assert len(set(RULE_IDS)) == len(RULES) > 40
    for rule in RULES:
        assert rule.judge.__module__.rpartition(".")[2] == rule.id.replace("-", "_")


def test_titles_are_unique() -> None:
    assert len({rule.title.en for rule in RULES}) == len({rule.title.zh for rule in RULES})
    assert len({rule.title.en for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_a_rule_names_signals_and_source(rule: Rule) -> None:
    text = inspect.getmodule(rule.judge).__doc__ or ""
    assert "\nSignals: " in text
    assert "\nSource: " in text


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_a_rule_asks_for_facts_by_their_names_and_types(rule: Rule) -> None:
    fields = typing.get_type_hints(Facts)
    for name, type_ in typing.get_type_hints(rule.judge).items():
        if name != "return":
            optional = name not in rule.needs
            wanted = {fields[name]} if optional else {fields[name], _without_none(fields[name])}
            assert type_ in wanted, name


@pytest.mark.parametrize("rule", RULES, ids=RULE_IDS)
def test_a_rule_is_silent_without_facts(rule: Rule) -> None:
    facts = known()
    assert rule.apply(facts) == ()
    always = {"request", "environ", "python", "python_version"}
    missing = [name for name in rule.needs if name not in always]
    assert rule.unknown(facts) == (missing[0] if missing else None)


def test_what_is_unknown_is_reported_with_its_reason() -> None:
    report = judge(known())
    assert report.findings == ()
    assert {entry.id for entry in report.unchecked} == {
        rule.id for rule in RULES if rule.unknown(known())
    }
    assert {entry.reason.zh for entry in report.unchecked} == {"本测试未提供"}


@pytest.mark.parametrize("file", sorted(DOCTOR.rglob("*.py")), ids=lambda file: file.stem)
def test_chinese_is_chinese(file: Path) -> None:
    for english, chinese in _texts(file):
        assert not PHRASE.search(chinese) or _command(chinese), chinese
        assert not HALF_WIDTH.search(chinese), chinese
        words = re.search(r"\w", re.sub(r"{\w*}", "", chinese))
        assert english == chinese or not words or CHINESE.search(chinese), chinese


def test_the_check_of_chinese_finds_what_it_should() -> None:
    assert HALF_WIDTH.search("请检查,然后重试")
    assert PHRASE.search("请 restart the server 后重试")
    assert "有输出，但没有列出芯片" in [zh for _, zh in _texts(Path(inspect.getfile(npu_smi)))]


def _command(text: str) -> bool:
    return any(command in text for command in COMMANDS)


def _texts(file: Path) -> Iterator[tuple[str, str]]:
    """Both languages of every Text in a source file; values that are filled in become {}."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == Text.__name__:
            first, second = (_literal(argument) for argument in node.args)
            if first is not None and second is not None:
                yield first, second


def _literal(node: ast.expr) -> str | None:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(
            str(part.value) if isinstance(part, ast.Constant) else "{}" for part in node.values
        )
    return None


def _without_none(type_: object) -> object:
    arguments = [a for a in typing.get_args(type_) if a is not type(None)]
    if type(None) not in typing.get_args(type_):
        return type_
    return arguments[0] if len(arguments) == 1 else typing.Union[tuple(arguments)]  # noqa: UP007
