# SPDX-License-Identifier: Apache-2.0
"""The plugin is installed without its C++ operators."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="custom-ops-not-built",
    title=Text(
        "The plugin's own C++ operators are absent", "插件自带的 C++ 算子没有编译或无法加载"
    ),
    actions=(
        Text(
            'Import them alone: `python -c "import vllm_ascend.vllm_ascend_C"`',
            '单独导入：`python -c "import vllm_ascend.vllm_ascend_C"`',
        ),
        Text(
            "Rebuild vllm-ascend with the toolkit sourced (COMPILE_CUSTOM_KERNELS=1) and "
            "read the compile log",
            "在 source 过 toolkit 的环境中重新编译 vllm-ascend（"
            "COMPILE_CUSTOM_KERNELS=1），并检查编译日志",
        ),
    ),
    patterns=(
        Pattern("camem allocator is not available"),
        Pattern("failed: ", r"FAILED: .*vllm_ascend"),
        Pattern("non-zero exit status", r"(cmake|make|ninja)\b.*vllm_ascend.*non-zero exit status"),
        Pattern(": *** ", r"\bg?make(\[\d+\])?: \*\*\* .*vllm_ascend"),
        Pattern(
            "did not run successfully",
            r"Building (wheel|editable) for vllm[-_]ascend\b.*did not run successfully",
        ),
        Pattern("no cmake_cxx_compiler", r"No CMAKE_CXX_COMPILER could be found"),
        Pattern("wheels for", r"Failed to build (installable )?wheels for .*vllm[-_]ascend"),
        Pattern("vllm_ascend_c' has no attribute"),
        Pattern("'vllm_ascend_c' is not defined"),
        Pattern("'_opnamespace' '_c", r"'_OpNamespace' '_C\w*' object has no attribute"),
        Pattern(
            "vllm_ascend_c", r"(No module named|cannot import name) '?(vllm_ascend\.)?vllm_ascend_C"
        ),
        Pattern("no module named", r"No module named '?custom_ops'?(\s|$)", Says.WHAT),
        Pattern("could not run '_c", r"Could not run '_C\w*::"),
        Pattern("no such operator _c", r"No such operator _C\w*::"),
        Pattern("wheel for vllm", r"Failed (building|to build).*vllm[-_]ascend"),
        Pattern("failed to register custom ops", says=Says.CODE),
    ),
)
