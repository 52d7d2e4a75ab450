# SPDX-License-Identifier: Apache-2.0
"""Where it ran."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Environment", "环境")
_HEAD = (Text("name", "名称"), Text("found", "值"))


def section(validation: Validation) -> Section:
    """A row per name."""
    rows = tuple((Literally(name), value) for name, value in validation.environment.items())
    block: Block = Table(_HEAD, rows)
    if not rows:
        block = Prose(Text("Nothing was recorded.", "没有记录。"))
    return Section("environment", _TITLE, (block,))
