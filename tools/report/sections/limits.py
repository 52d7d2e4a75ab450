# SPDX-License-Identifier: Apache-2.0
"""What this run could not show."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Bullets, Prose, Section
from vllm_ascend_bringup.tools.validate.results import Validation


def section(validation: Validation) -> Section:
    """A paragraph per limit."""
    block: Block = Bullets(validation.limits)
    if not validation.limits:
        block = Prose(Text("None were recorded.", "没有记录。"))
    return Section("limits", Text("Known limits", "已知局限"), (block,))
