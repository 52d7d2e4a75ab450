# SPDX-License-Identifier: Apache-2.0
"""Facts of any shape as rows: what ``bringup inspect --json`` and a plan hold."""

from collections.abc import Iterator, Mapping
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Cell, Literally
from vllm_ascend_bringup.tools.report.words import size


def rows(facts: Mapping[str, Any], titles: Mapping[str, Text]) -> tuple[tuple[Cell, ...], ...]:
    """A row per fact: those with titles first, in their order; those that are empty left out.

    Objects within objects stay in report.json, but for counts, which read as a list.
    """
    known = [name for name in titles if name in facts]
    names = known + [name for name in facts if name not in titles]
    return tuple(
        (titles.get(name, Literally(name)), said)
        for name in names
        if (said := _said(name, facts[name])) is not None
    )


def _said(name: str, value: Any) -> Cell | None:
    if isinstance(value, bool):
        return Text("yes", "是") if value else Text("no", "否")
    if isinstance(value, int) and name.endswith("_bytes"):
        return size(value)
    if isinstance(value, (str, int, float)):
        return str(value) or None
    if isinstance(value, Text):
        return value
    if isinstance(value, Mapping):
        if set(value) == {"en", "zh"}:
            return Text(str(value["en"]), str(value["zh"]))
        if value and all(isinstance(count, (int, str)) for count in value.values()):
            return ", ".join(f"{key}: {count}" for key, count in value.items())
    if isinstance(value, (list, tuple)) and value and all(map(_plain, value)):
        return ", ".join(map(str, value))
    return None


def _plain(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def flattened(facts: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Facts with those of the model itself, which ``inspect`` keeps apart, among them."""
    for name, value in facts.items():
        if name == "model" and isinstance(value, Mapping):
            yield from value.items()
        elif name not in ("schema_version", "command"):
            yield name, value
