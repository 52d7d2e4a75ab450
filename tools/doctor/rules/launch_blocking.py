# SPDX-License-Identifier: Apache-2.0
"""ASCEND_LAUNCH_BLOCKING=1 with graph mode, which is the default: vllm-ascend refuses to start.

Signals: the variable. It waits after each operator, which no stream may while it is captured.
Source: vllm-ascend's platform.py, check_and_update_config.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error

_NAME = "ASCEND_LAUNCH_BLOCKING"


def _judge(environ: Mapping[str, str]) -> Iterator[Judgement]:
    if environ.get(_NAME, "0") != "1":
        return
    expected = Text("0 or not set, in graph mode", "图模式下为 0 或不设置")
    yield error(Evidence(_NAME, "1", expected), do=Text(
        f"unset {_NAME}, or serve with --enforce-eager while you look for a faulty operator",
        f"请取消 {_NAME}；如需定位出错的算子，请加 --enforce-eager 启动服务",
    ))  # fmt: skip


RULE = Rule("launch-blocking", Text("blocking launches", "同步下发"), _judge)
