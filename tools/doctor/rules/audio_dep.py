# SPDX-License-Identifier: Apache-2.0
"""The model has an encoder for sound, and librosa, which reads sound, is not installed.

Signals: parts in config.json; the installed packages. vLLM fails with "Please install vllm[audio]".
Source: vllm-ascend's docs/source/faqs.md on Qwen2.5-Omni.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, warning
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Package


def _judge(model: ModelFiles, packages: Mapping[str, Package]) -> Iterator[Judgement]:
    if not model.audio or "librosa" in packages:
        return
    missing = Text("not installed", "未安装")
    expected = Text("installed, for a model that takes sound", "已安装（模型支持音频输入）")
    yield warning(Evidence("librosa", missing, expected), do=Text(
        "install the model's own utilities, such as qwen-omni-utils, or librosa itself",
        "请安装模型配套的工具包（例如 qwen-omni-utils），或直接安装 librosa",
    ))  # fmt: skip


RULE = Rule("audio-dep", Text("packages for sound", "音频依赖"), _judge)
