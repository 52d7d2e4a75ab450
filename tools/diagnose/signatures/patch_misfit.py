# SPDX-License-Identifier: Apache-2.0
"""A patch that does not fit the installed vLLM."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="patch-misfit",
    title=Text("A patch does not fit the installed vLLM", "补丁与已安装的 vLLM 不匹配"),
    actions=(
        Text(
            "`bringup patches` shows which; install a vLLM of the tested range, or report it",
            "用 `bringup patches` 查看是哪一个；安装测试过的 vLLM 版本，或反馈给我们",
        ),
    ),
    patterns=(Pattern("patcherror", r"\bPatchError: "),),
)
