# SPDX-License-Identifier: Apache-2.0
"""npu-smi hangs, fails, or lists no chip: nothing that uses the driver will work.

Signals: no answer in the time it was given; an exit code; an answer without a table of chips. The
tool waits for a chip that does not answer, and so does every process that opens the device.
Source: vllm-ascend's docs/source/faqs.md, which has it run before anything else is tried.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Answer, Npu
from vllm_ascend_bringup.tools.doctor.machine import ended
from vllm_ascend_bringup.tools.doctor.npu_smi import NPU_SMI_SECONDS

_LOOK = Text(
    "run npu-smi info on the host and look at dmesg; a chip that does not answer has to be reset "
    "or restarted by the machine's administrator before a server is started",
    "请在宿主机上执行 npu-smi info 并查看 dmesg；没有响应的芯片需由管理员复位或重启，"
    "之后才能启动服务",
)


def _judge(smi: Answer, npus: tuple[Npu, ...] | None = None) -> Iterator[Judgement]:
    last = (smi.output.strip().splitlines() or ["-"])[-1]
    if smi.code is None:
        found = ended(smi)
    elif smi.code:
        found = Text("{how}: {last}", "{how}：{last}").format(how=ended(smi), last=last)
    elif npus is None:
        found = Text("an answer that lists no chip", "有输出，但没有列出芯片")
    else:
        return
    expected = Text(
        f"a table of chips within {NPU_SMI_SECONDS:.0f} s", f"{NPU_SMI_SECONDS:.0f} 秒内列出芯片"
    )
    yield error(Evidence("npu-smi info", found, expected), do=_LOOK)


RULE = Rule("npu-smi", Text("npu-smi", "npu-smi 工具"), _judge)
