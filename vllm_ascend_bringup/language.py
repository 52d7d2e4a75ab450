# SPDX-License-Identifier: Apache-2.0
"""Texts for people, in English and Chinese.

Each text is written in both languages where it is made and chosen where it is printed. What a
program reads (ids, JSON keys, log lines of vLLM) has one spelling.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Language = Literal["en", "zh"]
_OPTION = "--lang"


@dataclass(frozen=True)
class Text:
    """The same said in English and in Chinese. ``str`` of it is the English one."""

    en: str
    zh: str

    def format(self, **values: object) -> "Text":
        """Both with ``{name}`` replaced; a value that is a Text in its language."""
        english = {name: said(value, "en") for name, value in values.items()}
        chinese = {name: said(value, "zh") for name, value in values.items()}
        return Text(self.en.format(**english), self.zh.format(**chinese))

    def __str__(self) -> str:
        return self.en


def said(text: object, language: Language) -> object:
    """A Text in this language; anything else, which has no language, as it is."""
    return getattr(text, language) if isinstance(text, Text) else text


def joined(names: Iterable[object]) -> Text:
    """A list of names, with the comma of each language."""
    words = [str(name) for name in names]
    return Text(", ".join(words), "、".join(words))


def language_of(arguments: Sequence[str], environ: Mapping[str, str] | None = None) -> Language:
    """``--lang`` where the arguments have it, else the locale's language, as gettext looks for it.

    A wrong value counts as absent: whoever parses the arguments says what is wrong with it.
    """
    environ = os.environ if environ is None else environ
    for place, argument in enumerate(arguments):
        name, separator, value = argument.partition("=")
        if name == _OPTION:
            value = value if separator else "".join(arguments[place + 1 : place + 2])
            if value in ("en", "zh"):
                return "zh" if value == "zh" else "en"
    locale = next(filter(None, map(environ.get, ("LC_ALL", "LC_MESSAGES", "LANG"))), "")
    return "zh" if locale.lower().startswith("zh") else "en"
