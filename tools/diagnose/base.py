# SPDX-License-Identifier: Apache-2.0
"""What ``bringup diagnose`` finds in a log."""

from dataclasses import dataclass

from vllm_ascend_bringup.language import Text


@dataclass(frozen=True)
class Excerpt:
    """A line of the log that is evidence; lines count from one."""

    line: int
    text: str


@dataclass(frozen=True)
class Finding:
    """A cause, the lines that show it and what to do. ``confidence``: above 0, at most 1."""

    id: str
    confidence: float
    title: Text
    evidence: tuple[Excerpt, ...]
    actions: tuple[Text, ...]
