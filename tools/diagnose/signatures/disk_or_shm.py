# SPDX-License-Identifier: Apache-2.0
"""No space left on a disk or in shared memory."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="disk-or-shm",
    title=Text("No space is left on a disk or in shared memory", "磁盘或共享内存空间不足"),
    actions=(
        Text(
            "`df -h` for the model, the cache and /dev/shm",
            "用 `df -h` 检查模型目录、缓存目录和 /dev/shm",
        ),
        Text(
            "Start the container with a larger --shm-size, or with --ipc=host",
            "启动容器时调大 --shm-size，或使用 --ipc=host",
        ),
    ),
    patterns=(
        Pattern("no space left on device"),
        Pattern("errno 28", r"\[Errno 28\]"),
        Pattern("bus error", says=Says.WHAT),
        Pattern("sigbus", r"\bSIGBUS\b", Says.WHAT),
        Pattern("/dev/shm", r"exceeds (the )?(memory|space) available in /dev/shm"),
        Pattern("--shm-size", r"(need|have|try|should|must).{0,60}--shm-size", Says.WHAT),
        Pattern("/dev/shm", r"/dev/shm.{0,40}(too small|is full|exhausted|不足|已满)", Says.WHAT),
        Pattern("insufficient shared memory", r"insufficient shared memory"),
        Pattern("disk quota exceeded"),
    ),
)
