# SPDX-License-Identifier: Apache-2.0
"""A compiler process that lost its parent; often an old driver."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="driver-min",
    title=Text("A compiler process lost its parent", "算子编译子进程失去父进程"),
    actions=(
        Text(
            "Usually the parent died first: look for its error above",
            "通常是主进程先退出：请查看上方主进程的报错",
        ),
        Text(
            "With nothing above, check the driver (23.0.7 at least, 24.1.RC2 or newer "
            "advised) and free host memory",
            "上方没有报错时，检查驱动版本（至少 23.0.7，建议 24.1.RC2 及以上）和主机空闲内存",
        ),
    ),
    patterns=(Pattern("main process disappeared", says=Says.ECHO),),
)
