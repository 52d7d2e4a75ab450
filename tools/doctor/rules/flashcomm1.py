# SPDX-License-Identifier: Apache-2.0
"""FlashComm1 is switched on in a way that this vllm-ascend does not read, or for a model or a
tensor-parallel size that it is not for.

Signals: VLLM_ASCEND_ENABLE_FLASHCOMM1; which switches the installed vllm-ascend reads, from its
source: until 0.19 the variable only, from 0.20.2rc1 on also additional_config.enable_flashcomm1,
which goes first, and after 0.26 neither (pull request 13946); experts in config.json; ranks.
Source: vllm-ascend's ascend_config.py, envs.py and platform.py of 0.23.0 and 0.26.0rc1.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import (
    Evidence,
    Judgement,
    Rule,
    error,
    note,
    warning,
)
from vllm_ascend_bringup.tools.doctor.facts import AscendSource, ModelFiles, Request

_NAME = "VLLM_ASCEND_ENABLE_FLASHCOMM1"
_UNSET = Text(f"unset {_NAME}", f"请取消 {_NAME}")


def _judge(
    environ: Mapping[str, str],
    ascend: AscendSource,
    request: Request,
    model: ModelFiles | None = None,
) -> Iterator[Judgement]:
    value = environ.get(_NAME, "0")
    if value == "0":
        return
    if "environment" not in ascend.flashcomm1:
        expected = Text("not set: this vllm-ascend has no FlashComm1",
                        "不设置：该版本的 vllm-ascend 已没有 FlashComm1")  # fmt: skip
        yield warning(Evidence(_NAME, value, expected), do=_UNSET)
        return
    if request.tp == 1:
        expected = Text("a tensor-parallel size above 1", "大于 1 的张量并行规模")
        yield error(Evidence("--tensor-parallel-size", "1", expected), do=_UNSET)
    elif model and not model.experts:
        expected = Text("a model with experts", "带专家的模型（MoE）")
        yield warning(Evidence(model.path, Text("no experts", "没有专家"), expected), do=_UNSET)
    elif "additional_config" in ascend.flashcomm1:
        expected = Text("in additional_config: the variable is deprecated",
                        "写在 additional_config 中：该环境变量已弃用")  # fmt: skip
        option = "--additional-config '{\"enable_flashcomm1\": true}' --enable-expert-parallel"
        yield note(Evidence(_NAME, value, expected), do=Text(
            f"serve with {option} instead", f"请改用启动参数 {option}"
        ))  # fmt: skip


RULE = Rule("flashcomm1", Text("FlashComm1", "FlashComm1 通信优化"), _judge)
