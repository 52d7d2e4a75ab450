# SPDX-License-Identifier: Apache-2.0
"""There are fewer chips than ranks, or ASCEND_RT_VISIBLE_DEVICES hides or invents some.

Signals: chips that npu-smi lists, the numbers in the variable, the ranks on this machine.
Source: CANN's reference of ASCEND_RT_VISIBLE_DEVICES: numbers of chips, in any order.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Npu, Request

_NAME = "ASCEND_RT_VISIBLE_DEVICES"


def _judge(
    npus: tuple[Npu, ...], environ: Mapping[str, str], request: Request
) -> Iterator[Judgement]:
    chips, given = len(npus), environ.get(_NAME)
    if given is not None:
        numbers = given.split(",")
        wrong = [n for n in numbers if not n.strip().isdecimal() or int(n) >= chips]
        if wrong or len(set(numbers)) < len(numbers):
            yield error(Evidence(_NAME, given, Text(
                f"different numbers from 0 to {chips - 1}", f"0 到 {chips - 1} 之间互不相同的编号"
            )), do=Text("correct it or unset it", "请更正或取消该变量"))  # fmt: skip
            return
        chips = len(numbers)
    if chips < request.ranks:
        yield error(
            Evidence(Text("chips that can be used", "可用芯片数"), str(chips),
                     Text(f"{request.ranks}, one per rank", f"{request.ranks}，每个 rank 一个")),
            do=Text(f"lower --tensor-parallel-size to {chips}, add machines, or correct {_NAME}",
                    f"将 --tensor-parallel-size 降到 {chips}，增加机器，或更正 {_NAME}"),
        )  # fmt: skip


RULE = Rule("visible-devices", Text("enough chips", "芯片数量"), _judge)
