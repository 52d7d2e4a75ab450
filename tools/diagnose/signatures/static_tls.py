# SPDX-License-Identifier: Apache-2.0
"""The loader has no static TLS left for a library."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="static-tls",
    title=Text("The loader has no static TLS left for a library", "加载器没有剩余的静态 TLS 空间"),
    actions=(
        Text(
            "Preload the library that the message names: LD_PRELOAD=<its path>",
            "预加载报错中的库：LD_PRELOAD=<库路径>",
        ),
        Text("Or import it first, before torch", "或者在导入 torch 之前先导入它"),
    ),
    patterns=(
        Pattern("static tls", r"cannot allocate memory in static TLS block|static TLS block"),
    ),
)
