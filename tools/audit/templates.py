# SPDX-License-Identifier: Apache-2.0
"""Names but for their numbers: one line for sixty layers of two hundred experts."""

import re
from collections.abc import Iterable

_NUMBER = re.compile(r"(?<![A-Za-z_])\d+(?=\.|$)")


def template(name: str) -> str:
    """``model.layers.7.mlp`` as ``model.layers.{n}.mlp``."""
    return _NUMBER.sub("{n}", name)


def by_template(names: Iterable[str]) -> dict[str, list[str]]:
    """Template -> its names, in order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(template(name), []).append(name)
    return groups
