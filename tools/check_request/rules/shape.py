# SPDX-License-Identifier: Apache-2.0
"""The body is an object with a list of messages, each an object with a role and a content.

What vLLM's ChatCompletionRequest refuses before it looks at any content
(vllm/entrypoints/openai/chat_completion/protocol.py); MindIE has the same interface.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server

_FORM = Text(
    'send {"messages": [{"role": "user", "content": "..."}]}',
    '请发送 {"messages": [{"role": "user", "content": "..."}]}',
)


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """Complaints about the outermost two levels."""
    messages = request.body.get("messages") if isinstance(request.body, Mapping) else None
    if not isinstance(messages, list):
        found = Text("the body has no list of messages", "请求体中没有 messages 列表")
        yield Complaint("messages", found, _FORM)
        return
    for place, message in enumerate(messages):
        where = f"messages[{place}]"
        if not isinstance(message, Mapping):
            yield Complaint(where, Text("the message is not an object", "消息不是对象"), _FORM)
            continue
        if not isinstance(message.get("role"), str):
            yield Complaint(where, Text("the message has no role", "消息缺少 role"), _FORM)
        yield from _content(where, message)


def _content(where: str, message: Mapping[str, Any]) -> Iterator[Complaint]:
    content = message.get("content")
    if isinstance(content, (str, list)):
        return
    # An assistant that calls a tool says nothing; vLLM takes a message without any content.
    if content is None and (message.get("role") == "assistant" or "content" not in message):
        return
    found = Text("content is {kind}", "content 的类型是 {kind}").format(kind=type(content).__name__)
    yield Complaint(where, found, Text("a string or a list of parts", "应为字符串或内容列表"))


RULE = Rule("body-shape", BOTH, check)
