# SPDX-License-Identifier: Apache-2.0
"""MindIE's Python model does not start."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="service-init",
    title=Text("MindIE's Python model does not initialise", "MindIE 的 Python 模型初始化失败"),
    actions=(
        Text(
            "Read the Python log in the service's logs folder: it names the missing dependency",
            "查看服务 logs 目录下的 Python 日志，其中写明了缺少的依赖",
        ),
    ),
    patterns=(Pattern("llmpythonmodel", r"LLMPythonModel\w* initiali[sz]es? fail", Says.CODE),),
)
