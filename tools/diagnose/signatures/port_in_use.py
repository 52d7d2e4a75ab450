# SPDX-License-Identifier: Apache-2.0
"""The HTTP or metrics port is taken."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="port-in-use",
    title=Text("A port that the server needs is taken", "服务需要的端口已被占用"),
    actions=(
        Text("See who holds it: `ss -ltnp | grep :PORT`", "查看占用者：`ss -ltnp | grep :端口号`"),
        Text(
            "Choose another --port, or stop your own leftover server",
            "换一个 --port，或停掉自己残留的服务",
        ),
    ),
    patterns=(
        Pattern("address already in use", r"address already in use"),
        Pattern("errno 98", r"\[Errno 98\]|\(98\)"),
        Pattern("eaddrinuse", r"\bEADDRINUSE\b"),
        Pattern("in use", r"\bport \d+ is (already )?in use"),
        Pattern("is not available", r"\bport \d+ is not available"),
        Pattern("端口", r"端口.{0,20}(被占用|已占用|已被使用|冲突)"),
    ),
)
