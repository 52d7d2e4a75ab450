# SPDX-License-Identifier: Apache-2.0
"""Why starts failed, with the lines of the log that show it, and what to do."""

from vllm_ascend_bringup.language import Text, said
from vllm_ascend_bringup.tools.diagnose.base import Finding
from vllm_ascend_bringup.tools.report.blocks import (
    Block,
    Bullets,
    Code,
    Heading,
    Mark,
    Prose,
    Section,
)  # fmt: skip
from vllm_ascend_bringup.tools.report.words import stage_title
from vllm_ascend_bringup.tools.validate.results import Start, Validation

_TITLE = Text("Causes found in the logs", "从日志中找到的原因")


def section(validation: Validation) -> Section:
    """A heading per cause, most likely first, with the lines of the first log that shows it."""
    found: dict[str, tuple[Finding, list[Start]]] = {}
    for start in (*validation.stages, *validation.ladder):
        for finding in start.diagnoses:
            found.setdefault(finding.id, (finding, []))[1].append(start)
    blocks = [block for finding, starts in found.values() for block in _finding(finding, starts)]
    if not blocks:
        blocks = [Prose(Text("No known cause of a failure was found.", "没有发现已知的故障原因。"))]
    return Section("diagnoses", _TITLE, tuple(blocks))


def _finding(finding: Finding, starts: list[Start]) -> list[Block]:
    titles = [stage_title(start) for start in starts]
    where = Text(
        ", ".join(str(said(title, "en")) for title in titles),
        "、".join(str(said(title, "zh")) for title in titles),
    )
    heading = Text("{title} (in: {where})", "{title}（{where}）").format(
        title=finding.title, where=where
    )
    confidence = Text("{id}, confidence {share}", "{id}，可信度 {share}").format(
        id=finding.id, share=f"{finding.confidence:.0%}"
    )
    blocks: list[Block] = [Heading(heading, Mark(confidence, "warn"))]
    if finding.evidence:
        lines = tuple(excerpt.text for excerpt in finding.evidence)
        blocks.append(Code(lines, tuple(excerpt.line for excerpt in finding.evidence)))
    if finding.actions:
        blocks.append(Bullets(finding.actions))
    return blocks
