# SPDX-License-Identifier: Apache-2.0
"""What the bytes are, whatever they are called.

vLLM opens them with Pillow, OpenCV and libsndfile or FFmpeg; MindIE takes a short list.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.check_request.base import (
    BOTH,
    KINDS,
    Complaint,
    Request,
    Rule,
    Server,
)
from vllm_ascend_bringup.tools.check_request.formats import MINDIE, VLLM, format_of

# vLLM's frames of a video, as JPEG after JPEG (vllm/multimodal/media/video.py, load_base64).
_FRAMES = "video/jpeg"


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per medium in a format that the server does not open."""
    taken = VLLM if server.name == "vllm" else MINDIE
    for medium in request.media:
        head = medium.head()
        if head is None or (medium.declared == _FRAMES and server.name == "vllm"):
            continue
        actual = format_of(head)
        if actual in taken[medium.kind]:
            continue
        if not head:
            found = Text("it is empty", "内容为空")
        elif actual:
            found = Text("{actual} as {kind}", "用 {actual} 作为{kind}")
        else:
            found = Text(
                "no known format of {kind}: it begins with {head}",
                "不是已知的{kind}格式，开头为 {head}",
            )
        yield Complaint(
            medium.where,
            found.format(actual=actual, kind=KINDS[medium.kind], head=head[:8].hex(" ")),
            Text("convert it to {formats}", "请转换为 {formats}").format(
                formats=joined(sorted(taken[medium.kind]))
            ),
        )


RULE = Rule("actual-format", BOTH, check)
