# SPDX-License-Identifier: Apache-2.0
"""The architecture is known; importing its module failed."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="arch-inspect-failed",
    title=Text(
        "The architecture is known, but importing its module failed",
        "架构已注册，但导入其模块时失败",
    ),
    actions=(
        Text(
            "Read the traceback above this message: the import or compiler error there is "
            "the cause",
            "查看该信息上方的 traceback，其中的导入错误或编译错误才是原因",
        ),
        Text(
            'Import the module alone: `python -c "import vllm.model_executor.models.<module>"`',
            '单独导入该模块：`python -c "import vllm.model_executor.models.<module>"`',
        ),
    ),
    patterns=(
        Pattern(
            "failed to be inspected", r"Model architectures? .*failed to be inspected", Says.WHAT
        ),
        Pattern("error in inspecting model architecture", says=Says.WHAT),
    ),
)
