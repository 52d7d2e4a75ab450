# SPDX-License-Identifier: Apache-2.0
"""Order of Ascend's version numbers, which are not PEP 440's: 24.1.rc3.7, 8.3.RC2, 9.0.0-beta.2."""

import re

_TAGS = ("alpha", "beta", "rc")
_END = (len(_TAGS), 0)
_NUMBER = len(_TAGS) + 1


def ascend_version(text: str) -> tuple[tuple[int, int], ...]:
    """A key to compare with: 24.1.rc2 < 24.1.rc2.1 < 24.1.0, 9.0.0-beta.2 < 9.0.0.

    Build numbers (9.1.0.B150) do not count. Raises ValueError for what does not begin with a
    number.
    """
    tokens = re.findall(r"\d+|[a-z]+", text.strip().lower())
    if not tokens or not tokens[0].isdecimal():
        raise ValueError(f"{text!r} is no version")
    key = []
    for token in tokens:
        if token.isdecimal():
            key.append((_NUMBER, int(token)))
        elif token in _TAGS:
            key.append((_TAGS.index(token), 0))
        else:
            break
    return (*key, _END)


def older(found: str, than: str) -> bool:
    """Whether ``found`` came before ``than``."""
    return ascend_version(found) < ascend_version(than)
