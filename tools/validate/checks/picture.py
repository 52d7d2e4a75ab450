# SPDX-License-Identifier: Apache-2.0
"""A picture is taken, becomes tokens of the prompt, and changes what is answered."""

import base64
import json
import re
import struct
import zlib
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.arguments import has, value_of
from vllm_ascend_bringup.tools.validate.checks.base import (
    Outcome,
    Rule,
    Session,
    failed,
    not_applicable,
    passed,
)
from vllm_ascend_bringup.tools.validate.client import GREEDY, LOGPROBS, Generation

# Above the smallest size that encoders in use refuse, below what is resized at a cost.
_SIDE = 224
_RED, _BLUE = (220, 30, 30), (30, 30, 220)
_QUESTION = "Which colour is this picture?"
_TOKENS = 16
_VISION = re.compile(r"(.*\.)?(vision|visual|vit|image|img)")


def png(colour: tuple[int, int, int], side: int = _SIDE) -> bytes:
    """A square of one colour (RGB, 8 bits), with a darker lower half so that it has an edge."""
    darker = bytes(value // 3 for value in colour)
    rows = b"".join(
        b"\0" + (bytes(colour) if row < side // 2 else darker) * side for row in range(side)
    )

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )  # fmt: skip


def takes_pictures(parts: tuple[str, ...], arguments: tuple[str, ...]) -> Text | None:
    """Why no picture is to be sent; None if one is."""
    if not any(map(_VISION.match, parts)):
        return Text("the model has no encoder for pictures", "模型没有图像编码器")
    limit = value_of(arguments, "--limit-mm-per-prompt") or "{}"
    none = value_of(arguments, "--limit-mm-per-prompt.image") == "0" or _none_allowed(limit)
    if none or has(arguments, "--language-model-only"):
        return Text("the server was told to take no pictures", "服务被设为不接收图像")
    return None


def run(session: Session) -> Outcome:
    """Two pictures, one question."""
    if reason := takes_pictures(session.model.parts, session.arguments):
        return not_applicable(reason)
    plain = session.client.chat(_QUESTION, 1, **GREEDY)
    red, blue = (_ask(session, colour) for colour in (_RED, _BLUE))
    session.answers.append(red)
    said = Text(
        "{count} tokens of the prompt come from the picture; answer: {text!r}",
        "图像占提示词中的 {count} 个 token；回答：{text!r}",
    ).format(count=red.prompt_tokens - plain.prompt_tokens, text=red.text)
    if red.prompt_tokens <= plain.prompt_tokens:
        return failed("output-quality", said)
    if (red.likeliest, red.ids) == (blue.likeliest, blue.ids):
        same = Text(
            "a red and a blue picture get the same answer with the same probabilities",
            "红色图像与蓝色图像得到的回答和概率完全相同",
        )
        return failed("output-quality", said, same)
    return passed(said, Text("another picture changes the answer's probabilities",
                             "换一张图像，回答的概率随之变化"))  # fmt: skip


def _ask(session: Session, colour: tuple[int, int, int]) -> Generation:
    url = "data:image/png;base64," + base64.b64encode(png(colour)).decode()
    content: list[Any] = [
        {"type": "text", "text": _QUESTION}, {"type": "image_url", "image_url": {"url": url}}
    ]  # fmt: skip
    return session.client.chat(
        content, _TOKENS, logprobs=True, top_logprobs=5, **GREEDY, **LOGPROBS
    )


def _none_allowed(limit: str) -> bool:
    try:
        allowed = json.loads(limit)
    except ValueError:
        return "image=0" in limit
    return isinstance(allowed, dict) and allowed.get("image") == 0


RULE = Rule("picture", Text("a picture is answered", "图像请求有回答"), run, first=True)
