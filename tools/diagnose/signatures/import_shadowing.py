# SPDX-License-Identifier: Apache-2.0
"""A folder named like the package hides the installed one."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="import-shadowing",
    title=Text(
        "A local folder or file named like the package hides the installed one",
        "当前目录下的同名文件夹或文件遮住了已安装的软件包",
    ),
    actions=(
        Text(
            "Start from another directory, one that holds no folder `vllm`, `vllm_ascend` "
            "or `torch`",
            "换一个目录启动，该目录下不能有名为 `vllm`、`vllm_ascend` 或 `torch` 的文件夹",
        ),
        Text(
            "Print the package's `__file__` and `__path__` to see what is imported",
            "打印该软件包的 `__file__` 和 `__path__`，看实际导入的是哪里",
        ),
        Text(
            "Rename the folder, or install the source tree with `pip install -e`",
            "给该文件夹改名，或者用 `pip install -e` 安装源码",
        ),
    ),
    patterns=(
        # An import system that finds a folder without __init__.py has no file to name.
        Pattern("(unknown location)", r"cannot import name .* \(unknown location\)"),
        Pattern(
            "partially initialized module",
            r"partially initialized module '\w+' has no attribute",
            Says.WHAT,
        ),
        Pattern(
            "module 'vllm' has no attribute",
            r"AttributeError: module 'vllm' has no attribute '(LLM|SamplingParams"
            r"|EngineArgs|AsyncLLMEngine|__version__)'",
            Says.WHAT,
        ),
    ),
)
