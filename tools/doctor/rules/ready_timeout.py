# SPDX-License-Identifier: Apache-2.0
"""The engine may not be ready in the time that vLLM waits for it.

Signals: VLLM_ENGINE_READY_TIMEOUT_S (600 seconds unless set), and how long reading the weights
takes at half a gigabyte per second and machine, a slow network disk; graph capture comes on top.
Source: vLLM's envs.py and v1/engine/core_client.py; the rate is this project's assumption.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error, note
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Request
from vllm_ascend_bringup.tools.doctor.wording import size

_NAME, _DEFAULT = "VLLM_ENGINE_READY_TIMEOUT_S", "600"
_RATE = 0.5e9


def _judge(
    environ: Mapping[str, str], request: Request, model: ModelFiles | None = None
) -> Iterator[Judgement]:
    stated = environ.get(_NAME, _DEFAULT)
    if not stated.isdecimal() or int(stated) == 0:
        expected = Text("a positive whole number of seconds", "以秒为单位的正整数")
        yield error(Evidence(_NAME, stated, expected), do=Text(
            "correct it or unset it", "请更正或取消该变量"
        ))  # fmt: skip
        return
    seconds = round(model.weights / request.nodes / _RATE) if model else 0
    if model and seconds > int(stated):
        weights = size(model.weights / request.nodes)
        expected = Text(
            f"more than {seconds} s, for {weights} of weights at 0.5 GB/s",
            f"大于 {seconds} 秒（按 0.5 GB/s 读取 {weights} 权重）",
        )
        yield note(Evidence(_NAME, stated, expected), do=Text(
            f"export {_NAME}={2 * seconds}, unless the disk is known to be faster",
            f"除非磁盘更快，请执行 export {_NAME}={2 * seconds}",
        ))  # fmt: skip


RULE = Rule("ready-timeout", Text("time until the engine is ready", "引擎就绪等待时间"), _judge)
