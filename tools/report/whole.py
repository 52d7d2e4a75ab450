# SPDX-License-Identifier: Apache-2.0
"""The whole report: the verdict on top, then its sections."""

from dataclasses import dataclass

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Mark, Section, Words
from vllm_ascend_bringup.tools.report.sections.catalog import SECTIONS
from vllm_ascend_bringup.tools.report.sections.facts import flattened
from vllm_ascend_bringup.tools.report.words import duration
from vllm_ascend_bringup.tools.validate.results import Validation

_VERDICTS = {
    "pass": Mark(Text("Pass", "通过"), "good"),
    "fail": Mark(Text("Fail", "未通过"), "bad"),
}


@dataclass(frozen=True)
class Report:
    """``label``: the first cause of a failure. ``facts``: when, how long, by which version."""

    title: Text
    verdict: Mark
    label: str | None
    summary: Text
    facts: tuple[tuple[Text, Words], ...]
    sections: tuple[Section, ...]


def whole_report(validation: Validation) -> Report:
    """What both the page and the Markdown draw."""
    facts = dict(flattened(validation.model))
    model = facts.get("architecture") or facts.get("path") or Text("a checkpoint", "某个模型")
    return Report(
        title=Text("Validation of {model}", "{model} 验证报告").format(model=model),
        verdict=_VERDICTS[validation.verdict],
        label=validation.label,
        summary=validation.summary,
        facts=(
            (Text("started", "开始时间"), validation.started_at),
            (Text("took", "总用时"), duration(validation.seconds)),
            (Text("written by", "生成工具"), f"vllm-ascend-bringup {validation.project_version}"),
        ),
        sections=tuple(section(validation) for section in SECTIONS),
    )
