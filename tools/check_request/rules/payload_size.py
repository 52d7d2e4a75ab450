# SPDX-License-Identifier: Apache-2.0
"""All of the messages together, base64 included, which makes four characters of three bytes.

MindIE: 4194304 characters under ``messages`` (its FAQ on the size of multimodal input). They are
counted here as compact JSON, which is a little more than the fields alone.
"""

import json
from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import Complaint, Request, Rule, Server

CHARACTERS = 4_194_304


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """At most one complaint."""
    if not isinstance(request.body, Mapping) or not request.body.get("messages"):
        return
    text = json.dumps(request.body["messages"], ensure_ascii=False, separators=(",", ":"))
    if len(text) <= CHARACTERS:
        return
    encoded = [medium.url.rpartition(",")[2] for medium in request.media if medium.data is not None]
    inside = sum(map(len, encoded))
    yield Complaint(
        "messages",
        Text(
            "{count} characters, {inside} of them base64; at most {most}",
            "共 {count} 个字符，其中 base64 占 {inside} 个；上限 {most}",
        ).format(count=len(text), inside=inside, most=CHARACTERS),
        Text(
            "send URLs or paths instead of base64: media may have {bytes} bytes in all at most",
            "用 URL 或路径代替 base64：按 base64 发送时媒体总共不超过 {bytes} 字节",
        ).format(bytes=max(0, CHARACTERS - len(text) + inside) // 4 * 3),
    )


RULE = Rule("payload-size", ("mindie",), check)
