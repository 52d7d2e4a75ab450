# SPDX-License-Identifier: Apache-2.0
"""Version numbers: Ascend's, which are not PEP 440's (24.1.rc3.7, 8.3.RC2, 9.0.0-beta.2), and
those of packages, which should be and may not ("dev").
"""

import re

from packaging.requirements import Requirement
from packaging.version import InvalidVersion, Version

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


def package_version(text: str) -> Version | None:
    """None for what PEP 440 does not know."""
    try:
        return Version(text)
    except InvalidVersion:
        return None


def required(requires: tuple[str, ...], *names: str) -> list[Requirement]:
    """Of a package's requirements, those of these names that hold for this Python."""
    wanted = (Requirement(text) for text in requires)
    return [r for r in wanted if r.name in names and (r.marker is None or r.marker.evaluate())]


def satisfies(version: str, requirement: Requirement) -> bool:
    """Whether a version is one that is required; development versions count as they are."""
    parsed = package_version(version)
    return parsed is not None and requirement.specifier.contains(parsed, prereleases=True)
