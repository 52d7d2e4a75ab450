# SPDX-License-Identifier: Apache-2.0
"""A build that trips over an earlier one."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="reinstall-c-fail",
    title=Text("The build trips over what an earlier one left", "重新编译时受到上次构建残留的影响"),
    actions=(
        Text(
            "Delete the build folder, *.so and CMakeCache.txt of the source tree, then build again",
            "删除源码目录中的 build 目录、*.so 和 CMakeCache.txt，再重新编译",
        ),
    ),
    patterns=(
        Pattern("cmakecache.txt", r"CMakeCache\.txt directory .* is different"),
        Pattern(
            "does not match the source",
            r"source .* does not match the source .* used to generate cache",
        ),
    ),
)
