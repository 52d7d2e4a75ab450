# SPDX-License-Identifier: Apache-2.0
"""What a bring-up hands over, where this report has it, and what is still to be written.

The list is that of vllm-ascend's model-adapter notes (.agents/skills/vllm-ascend-model-adapter).
"""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.report.blocks import Cell, Link, Mark, Section, Table
from vllm_ascend_bringup.tools.validate.results import Validation

_TITLE = Text("Deliverables of a bring-up", "适配交付件")
_HEAD = (Text("deliverable", "交付件"), Text("state", "状态"), Text("where", "位置"))
_HERE = Mark(Text("in this report", "已包含"), "good")
_OPEN = Mark(Text("to be written", "待编写"), "warn")


def section(validation: Validation) -> Section:
    """A row per deliverable."""
    failed = validation.verdict == "fail"
    found = any(start.diagnoses for start in (*validation.stages, *validation.ladder))
    rows = (
        _row(Text("architecture summary", "架构概要"), "model", bool(validation.model)),
        _row(Text("root causes", "根本原因"), "diagnoses", found or not failed),
        _by_hand(
            Text("changes and their reasons", "改动及原因"),
            Text("recipes and patches in use are under Model; say why each is needed",
                 "所用的配方和补丁见“模型”；请写明各自的理由"),
        ),
        _row(Text("evidence of start-up and inference", "启动与推理的证据"), "checks",
             bool(validation.stages)),
        _row(Text("feature matrix", "特性矩阵"), "features", bool(validation.features)),
        _row(Text("theoretical and practical length", "理论与实测的最大长度"), "capacity",
             validation.capacity is not None),
        _row(Text("dummy weights against real ones", "虚拟权重与真实权重的对照"), "stages",
             {"dummy", "real"} <= {stage.stage for stage in validation.stages}),
        _row(Text("false-ready cases", "假就绪情况"), "false-ready", bool(validation.stages)),
        _row(Text("evidence of fallbacks", "回退证据"), "ladder",
             bool(validation.ladder) or not failed),
        _row(Text("exact commands", "确切命令"), "commands", bool(validation.stages)),
        _by_hand(
            Text("accuracy test config", "精度测试配置"),
            Text("model name, hardware, tasks with their metrics, few-shot count",
                 "模型名、硬件、任务及指标、few-shot 数量"),
        ),
        _by_hand(
            Text("deployment page", "部署文档"),
            Text("from the commands and limits above", "根据上文的命令和局限编写"),
        ),
    )  # fmt: skip
    return Section("deliverables", _TITLE, (Table(_HEAD, rows),))


def _row(title: Text, section_id: str, here: bool) -> tuple[Cell, ...]:
    if not here:
        return (title, Mark(Text("not in this run", "本次未产生"), "warn"), Link(section_id))
    return (title, _HERE, Link(section_id))


def _by_hand(title: Text, what: Text) -> tuple[Cell, ...]:
    return (title, _OPEN, what)
