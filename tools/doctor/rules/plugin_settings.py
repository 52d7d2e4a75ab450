# SPDX-License-Identifier: Apache-2.0
"""A variable of this plugin has a value that it will refuse.

Signals: what the plugin itself says of its VLLM_ASCEND_BRINGUP_* variables. It ends vLLM's start.
Source: settings.py.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import OwnState


def _judge(own: OwnState) -> Iterator[Judgement]:
    if own.setting:
        found, expected, fix = own.setting
        yield error(Evidence(Text("setting", "设置项"), found, expected), do=fix)


RULE = Rule("plugin-settings", Text("settings of this plugin", "本插件的设置"), _judge)
