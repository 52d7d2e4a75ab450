# SPDX-License-Identifier: Apache-2.0
"""The feature matrix."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Block, Cell, Literally, Prose, Section, Table
from vllm_ascend_bringup.tools.report.words import FEATURE_STATES, NONE
from vllm_ascend_bringup.tools.validate.results import Feature, Validation, as_text

_TITLE = Text("Features", "特性矩阵")
_HEAD = (Text("feature", "特性"), Text("state", "状态"), Text("evidence", "证据"))


def section(validation: Validation) -> Section:
    """A row per feature."""
    rows = tuple(_row(feature) for feature in validation.features)
    block: Block = Table(_HEAD, rows)
    if not rows:
        block = Prose(Text("No feature was examined.", "没有检查任何特性。"))
    return Section("features", _TITLE, (block,))


def _row(feature: Feature) -> tuple[Cell, ...]:
    evidence = Literally(as_text(feature.evidence)) if feature.evidence else NONE
    return (feature.title, FEATURE_STATES[feature.state], evidence)
