# SPDX-License-Identifier: Apache-2.0
"""Each log signature: a log written for it that fires, and a near miss that must not.

``tests/data/logs/<id>.txt`` holds both.
"""

import importlib
from itertools import pairwise
from pathlib import Path

import pytest

from vllm_ascend_bringup.tools.diagnose import diagnose
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.catalog import SIGNATURES

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "tests" / "data" / "logs"
SEPARATOR = "--- near miss\n"
FILES = sorted(
    file.stem
    for file in (ROOT / "tools" / "diagnose" / "signatures").glob("*.py")
    if file.stem != "__init__"
)
# Own words, not the cause of anything: always below insufficient-log.
ECHOES = {
    id_ for id_, signature in SIGNATURES.items()
    if all(pattern.says is Says.ECHO for pattern in signature.patterns)
} - {"false-ready", "insufficient-log"}  # fmt: skip


def halves(id_: str) -> tuple[list[str], list[str]]:
    log, separator, near_miss = (LOGS / f"{id_}.txt").read_text().partition(SEPARATOR)
    assert separator
    return log.splitlines(), near_miss.splitlines()


def test_every_file_is_listed_under_its_own_name() -> None:
    assert sorted(id_.replace("-", "_") for id_ in SIGNATURES) == FILES
    for id_, signature in SIGNATURES.items():
        assert id_ == signature.id
        name = f"vllm_ascend_bringup.tools.diagnose.signatures.{id_.replace('-', '_')}"
        assert importlib.import_module(name).SIGNATURE is signature


def test_titles_are_unique_and_every_signature_has_its_log() -> None:
    titles = {signature.title for signature in SIGNATURES.values()}
    assert len(titles) == len(SIGNATURES) == len({title.zh for title in titles})
    assert sorted(file.stem for file in LOGS.glob("*.txt")) == sorted(SIGNATURES)


@pytest.mark.parametrize("id_", SIGNATURES)
def test_fires_on_its_log(id_: str) -> None:
    log, _ = halves(id_)
    found = [finding.id for finding in diagnose(log)]
    assert found[0] == id_ if id_ not in ECHOES else id_ in found, found


@pytest.mark.parametrize("id_", SIGNATURES)
def test_stays_quiet_on_the_near_miss(id_: str) -> None:
    _, near_miss = halves(id_)
    found = [finding.id for finding in diagnose(near_miss)]
    assert near_miss
    assert id_ not in found or found == ["insufficient-log"] != [id_], found


@pytest.mark.parametrize("id_", SIGNATURES)
def test_no_signature_fires_on_notes(id_: str) -> None:
    log, _ = halves(id_)
    noted = [f"INFO 03-01 10:00:00 [teapot.py:1] {line}" for line in log]
    assert [finding.id for finding in diagnose(noted)] == ["insufficient-log"]


@pytest.mark.parametrize("id_", SIGNATURES)
def test_texts_are_in_both_languages(id_: str) -> None:
    signature = SIGNATURES[id_]
    for text in (signature.title, *signature.actions):
        assert text.en.isascii() or "«" in text.en
        assert any("\u4e00" <= character <= "\u9fff" for character in text.zh)
        # Half-width punctuation between Chinese characters is a slip.
        assert not any(
            before > "\u4e00" and mark in ",;:!?()" for before, mark in pairwise(text.zh)
        ), text.zh


def test_a_bad_pattern_is_refused() -> None:
    with pytest.raises(ValueError, match="lower case"):
        Pattern("Out of memory")
    with pytest.raises(ValueError, match="lower-case words"):
        Signature("Out_of", SIGNATURES["tokenizer"].title, (), ())
