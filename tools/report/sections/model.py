# SPDX-License-Identifier: Apache-2.0
"""What the checkpoint is."""

from collections.abc import Mapping
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Bullets, Prose, Section, Table
from vllm_ascend_bringup.tools.report.sections.facts import flattened, rows
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Model", "模型")
_HEAD = (Text("fact", "项目"), Text("value", "值"))


def section(validation: Validation) -> Section:
    """Facts, and the problems that ``inspect`` found."""
    facts = dict(flattened(validation.model))
    known = rows(facts)
    blocks: list[Block] = [Table(_HEAD, known)] if known else []
    if problems := facts.get("problems"):
        blocks += [Prose(Text("Notes of bringup inspect:", "bringup inspect 的提示：")),
                   Bullets(tuple(_problem(problem) for problem in problems))]  # fmt: skip
    if not blocks:
        blocks.append(Prose(Text("The checkpoint was not read.", "没有读取权重目录。")))
    return Section("model", _TITLE, tuple(blocks))


def _problem(problem: Any) -> str:
    if isinstance(problem, Mapping):
        return f"{problem.get('severity', 'note')}: {problem.get('text', '')}"
    return str(problem)
