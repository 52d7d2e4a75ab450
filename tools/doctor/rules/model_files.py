# SPDX-License-Identifier: Apache-2.0
"""The directory has no config.json that can be read, or no weights.

Signals: its files. ``bringup inspect`` says more about a checkpoint.
Source: none is needed.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles


def _judge(model: ModelFiles) -> Iterator[Judgement]:
    again = Text(f"download it again; bringup inspect {model.path} says what is missing",
                 f"请重新下载；bringup inspect {model.path} 会说明缺少什么")  # fmt: skip
    missing = Text("missing, or not readable as JSON", "缺失，或不是有效的 JSON")
    if not model.has_config and "config.json" not in model.closed:
        there = Text("a JSON object", "一个 JSON 对象")
        yield error(Evidence(f"{model.path}/config.json", missing, there), do=again)
    if not model.weights:
        what = Text(f"weight files in {model.path}", f"{model.path} 中的权重文件")
        yield error(Evidence(what, "0", Text("at least one", "至少一个")), do=again)


RULE = Rule("model-files", Text("files of the checkpoint", "checkpoint 文件"), _judge)
