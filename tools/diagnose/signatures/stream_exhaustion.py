# SPDX-License-Identifier: Apache-2.0
"""Graph capture runs out of streams or queues."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="stream-exhaustion",
    title=Text(
        "Graph capture runs out of device streams or queues", "图捕获耗尽了设备的 stream 或队列资源"
    ),
    actions=(
        Text(
            "Fewer and smaller capture sizes: `cudagraph_capture_sizes` in --compilation-config",
            "减少捕获的 batch 档位：--compilation-config 中的 `cudagraph_capture_sizes`",
        ),
        Text(
            "Use FULL_DECODE_ONLY, which needs about one graph per size",
            "使用 FULL_DECODE_ONLY，每个档位大约只需一张图",
        ),
        Text(
            "Newer driver firmware (HDK 25.5.1 or later) with its CANN lifts the limit; "
            "--enforce-eager only to confirm",
            "升级 HDK（25.5.1 及以上）和配套 CANN 可以放宽限制；--enforce-eager 只用于确认",
        ),
    ),
    patterns=(
        Pattern("sq cq fail", r"alloc sq cq fail"),
        Pattern("stream_resources", r"Insufficient_Stream_Resources?"),
        Pattern("el0009", r"\bEL0009\b"),
        Pattern("el0006", r"\bEL0006\b"),
        Pattern(
            "stream resource",
            r"no stream resource|stream resources? (are|is) insufficient"
            r"|insufficient stream resource",
        ),
        Pattern("new capture stream failed"),
        Pattern("insufficient available streams", says=Says.WHAT),
        Pattern(
            "20700",
            r"(error (code|no)(:| is)|result = |errorCode=|retCode=)\s*20700[57-9]\b",
            Says.WHAT,
        ),
        Pattern("resource alloc fail", says=Says.WHAT),
    ),
)
