# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend is installed without its compiled operators.

Signals: no vllm_ascend_C library in its package. A build with COMPILE_CUSTOM_KERNELS=0, or one that
failed half-way, leaves it so; models fail at the first operator of its own.
Source: vllm-ascend's setup.py and docs/source/faqs.md on a reinstallation whose compilation fails.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import AscendSource, Package


def _judge(ascend: AscendSource, packages: Mapping[str, Package]) -> Iterator[Judgement]:
    if ascend.compiled:
        return
    plugin = packages.get("vllm-ascend")
    again = Text("install its wheel again, with the toolkit sourced",
                 "请在设置好 CANN 环境变量后重新安装其 wheel 包")  # fmt: skip
    if plugin and plugin.editable:
        again = Text(
            f"in {plugin.editable}: python setup.py clean, then pip install -e . with the toolkit "
            "sourced, and read the compiler's output",
            f"在 {plugin.editable} 中先执行 python setup.py clean，再在设置好 CANN 环境变量后执行 "
            "pip install -e .，并查看编译输出",
        )
    yield error(
        Evidence("vllm_ascend_C*.so", Text("missing", "不存在"), Text("present", "存在")), do=again
    )


RULE = Rule(
    "custom-ops-not-built",
    Text("compiled operators of vllm-ascend", "vllm-ascend 自带算子"),
    _judge,
)
