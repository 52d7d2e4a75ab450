# SPDX-License-Identifier: Apache-2.0
"""Which language is spoken, and that a text keeps both."""

import pickle

import pytest

from vllm_ascend_bringup.errors import ServeError
from vllm_ascend_bringup.language import Text, joined, language_of, said


@pytest.mark.parametrize(
    ("arguments", "environ", "expected"),
    [
        ([], {}, "en"),
        ([], {"LANG": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "C.UTF-8", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ([], {"LANG": "zh_CN.UTF-8", "LC_ALL": "", "LC_MESSAGES": "en_US.UTF-8"}, "en"),
        (["doctor", "--lang", "zh"], {"LANG": "en_US.UTF-8"}, "zh"),
        (["doctor", "--lang=en"], {"LANG": "zh_CN.UTF-8"}, "en"),
        (["doctor", "--lang"], {"LANG": "zh_CN.UTF-8"}, "zh"),
        (["doctor", "--lang", "fr"], {"LANG": "zh_CN.UTF-8"}, "zh"),
    ],
)
def test_option_then_locale(arguments: list[str], environ: dict[str, str], expected: str) -> None:
    assert language_of(arguments, environ) == expected


def test_both_languages_are_formatted_with_their_own_values() -> None:
    text = Text("found {what}, {count}", "发现{what}，{count} 个").format(
        what=Text("cards", "卡"), count=2
    )
    assert (said(text, "en"), said(text, "zh")) == ("found cards, 2", "发现卡，2 个")
    assert said("as it is", "zh") == "as it is"
    takes = Text("takes {known}", "支持 {known}").format(known=joined(["mp4", "avi"]))
    assert (takes.en, takes.zh) == ("takes mp4, avi", "支持 mp4、avi")


def test_an_error_is_chinese_only_if_all_of_it_is() -> None:
    found, expected, fix = Text("a", "甲"), Text("b", "乙"), Text("c", "丙")
    error = pickle.loads(pickle.dumps(ServeError(found, expected, fix)))
    assert error.said("zh") == "甲。应为：乙。处理办法：丙。"
    assert str(error) == "a. Expected: b. To do: c."
    assert error.found == "a"
    assert ServeError(found, expected, "c").said("zh") == "a. Expected: b. To do: c."
