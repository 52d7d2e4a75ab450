# SPDX-License-Identifier: Apache-2.0
"""Messages that the model's chat template may not take.

No server checks this itself: each template does as it likes, so these are notes. MindIE does
refuse a conversation of no characters at all.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server

_ROLES = ("system", "developer", "user", "assistant", "tool", "function")


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """Complaints about empty conversations, empty messages, roles and their order."""
    if isinstance(request.body, Mapping) and request.body.get("messages") == []:
        yield Complaint(
            "messages", Text("there are no messages", "没有任何消息"),
            Text("send at least one", "请至少发送一条"),
            "refused" if server.name == "mindie" else "note",
        )  # fmt: skip
        return
    roles = [(where, message.get("role")) for where, message in request.messages]
    for where, message in request.messages:
        if message.get("content") in ("", []):
            yield _note(where, Text("the message is empty", "消息为空"))
        if isinstance(role := message.get("role"), str) and role not in _ROLES:
            yield _note(where, Text("unknown role {role}", "未知的 role：{role}").format(role=role))
    for place, (where, role) in enumerate(roles):
        if role == "system" and place:
            yield _note(where, Text("a system message further down", "system 消息不在最前"))
    turns = [(where, role) for where, role in roles if role in ("user", "assistant")]
    if turns and turns[0][1] == "assistant":
        yield _note(turns[0][0], Text("the assistant speaks first", "assistant 先于 user 发言"))
    for (_, one), (where, other) in pairwise(turns):
        if one == other == "user":
            yield _note(where, Text("two user messages in a row", "连续两条 user 消息"))


def _note(where: str, found: Text) -> Complaint:
    action = Text("some chat templates refuse it; try it", "部分对话模板会拒绝；请先试一次")
    return Complaint(where, found, action, "note")


RULE = Rule("conversation", BOTH, check)
