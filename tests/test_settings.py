# SPDX-License-Identifier: Apache-2.0
"""Settings from the environment: defaults, choices, and that nothing bad passes as a default."""

import pickle

import pytest

from vllm_ascend_bringup.errors import SettingsError, listed
from vllm_ascend_bringup.settings import PREFIX, Settings, read_settings


def test_nothing_set_gives_the_defaults() -> None:
    assert read_settings({}) == Settings(dequant="auto", audit="error", threads=None)


def test_variables_of_others_are_left_alone() -> None:
    others = {"VLLM_ASCEND_THREADS": "x", "VLLM_PLUGINS": "", "THREADS": "x"}
    assert read_settings(others) == Settings()


@pytest.mark.parametrize(
    ("name", "value", "settings"),
    [
        ("DEQUANT", "auto", Settings(dequant="auto")),
        ("DEQUANT", "always", Settings(dequant="always")),
        ("DEQUANT", "never", Settings(dequant="never")),
        ("AUDIT", "error", Settings(audit="error")),
        ("AUDIT", "warn", Settings(audit="warn")),
        ("DECODE_ON", "host", Settings(decode_on="host")),
        ("DECODE_ON", "device", Settings(decode_on="device")),
        ("THREADS", "auto", Settings(threads=None)),
        ("THREADS", "1", Settings(threads=1)),
        ("THREADS", "64", Settings(threads=64)),
    ],
)
def test_every_choice(name: str, value: str, settings: Settings) -> None:
    assert read_settings({PREFIX + name: value}) == settings


def test_all_at_once() -> None:
    given = {PREFIX + "DEQUANT": "never", PREFIX + "AUDIT": "warn", PREFIX + "THREADS": "3"}
    assert read_settings(given) == Settings("never", "warn", 3)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DEQUANT", "", "auto, always, never"),
        ("DEQUANT", "ALWAYS", "auto, always, never"),
        ("DEQUANT", " never", "auto, always, never"),
        ("DEQUANT", "1", "auto, always, never"),
        ("AUDIT", "off", "error, warn"),
        ("AUDIT", "", "error, warn"),
        ("DECODE_ON", "npu", "host, device"),
        ("DECODE_ON", "", "host, device"),
        ("THREADS", "0", "positive whole number"),
        ("THREADS", "-1", "positive whole number"),
        ("THREADS", "2.5", "positive whole number"),
        ("THREADS", "", "positive whole number"),
        ("THREADS", "many", "positive whole number"),
        ("THREADS", "1e3", "positive whole number"),
        ("THREADS", "²", "positive whole number"),
    ],
)
def test_bad_value_is_an_error_that_lists_the_choices(name: str, value: str, expected: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_settings({PREFIX + name: value})
    error = caught.value
    assert error.found == f"{PREFIX}{name}={value!r}"
    assert expected in error.expected
    assert error.fix
    assert error.exit_code == 3


@pytest.mark.parametrize("name", ["DEQUANTS", "dequant", "", "THREAD"])
def test_unknown_variable_with_our_prefix_is_an_error(name: str) -> None:
    with pytest.raises(
        SettingsError, match=f"unknown environment variable {PREFIX}{name}"
    ) as caught:
        read_settings({PREFIX + name: "auto"})
    for known in ("DEQUANT", "AUDIT", "DECODE_ON", "THREADS"):
        assert PREFIX + known in caught.value.expected


def test_reads_the_process_environment_when_given_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PREFIX + "THREADS", "5")
    assert read_settings().threads == 5
    monkeypatch.setenv(PREFIX + "THREADS", "five")
    with pytest.raises(SettingsError, match="'five'"):
        read_settings()


def test_errors_survive_the_way_between_processes() -> None:
    error = SettingsError("found", "expected", "fix")
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is SettingsError
    assert (copy.found, copy.expected, copy.fix) == ("found", "expected", "fix")
    assert str(copy) == "found. Expected: expected. To do: fix."


@pytest.mark.parametrize(
    ("names", "limit", "wanted"),
    [([], 8, ""), (["b", "a"], 8, "a, b"), (["c", "a", "b"], 3, "a, b, c"),
     ({"c", "a", "b"}, 2, "a, b and 1 more"), (("d", "c", "b", "a"), 1, "a and 3 more")],
    ids=["none", "sorted", "exactly-the-limit", "one-over", "many-over"],
)  # fmt: skip
def test_listed_names_some_and_counts_the_rest(
    names: "list[str] | tuple[str, ...] | set[str]", limit: int, wanted: str
) -> None:
    assert listed(names, limit) == wanted
