# SPDX-License-Identifier: Apache-2.0
"""A chip that vllm-ascend does not know."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="device-unsupported",
    title=Text("vllm-ascend does not support this chip", "vllm-ascend 不支持该芯片"),
    actions=(
        Text(
            "Supported are A2, A3 and, as an experiment, 310P; 310B, the first 910 and 910 "
            "ProB are not",
            "支持 A2、A3，以及实验性支持的 310P；不支持 310B、初代 910 和 910 ProB",
        ),
    ),
    patterns=(
        Pattern(
            "soc_version", r"(can not|cannot|not) support(ed)? soc_version|unsupported soc_version"
        ),
        Pattern("unsupported soc", r"(RuntimeError|ValueError).*unsupported soc\b"),
    ),
)
