# SPDX-License-Identifier: Apache-2.0
"""An old container runtime cannot unpack the image."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="docker-pull-tar",
    title=Text(
        "The container runtime is too old to unpack the image", "容器运行时版本过旧，无法解压镜像"
    ),
    actions=(
        Text(
            "Pull and save the image for linux/arm64 on another machine, copy the tar here "
            "and `docker load` it",
            "在另一台机器上拉取 linux/arm64 镜像并 `docker save`，拷贝过来后 `docker load`",
        ),
    ),
    patterns=(
        Pattern("invalid tar header"),
        Pattern("archive/tar"),
    ),
)
