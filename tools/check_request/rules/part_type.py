# SPDX-License-Identifier: Apache-2.0
"""Content parts are of types that the server knows.

vLLM: MM_PARSER_MAP of vllm/renderers/chat_utils.py, less what its request schema lets through only
for other endpoints. MindIE: its FAQ on multimodal input.
"""

from collections.abc import Iterator, Mapping

from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.check_request.base import (
    BOTH,
    MEDIA,
    Complaint,
    Request,
    Rule,
    Server,
)  # fmt: skip

_VLLM_TYPES = frozenset(
    {"text", "refusal", "thinking", "image_embeds", "audio_embeds", "video_embeds",
     "prompt_embeds", "tool_reference", *MEDIA}
)  # fmt: skip
_MINDIE_TYPES = frozenset({"text", *MEDIA})


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per part of no known type."""
    known = _VLLM_TYPES if server.name == "vllm" else _MINDIE_TYPES
    names = joined(sorted(known))
    action = Text("known types: {known}", "可用的类型：{known}").format(known=names)
    for part in request.parts:
        if not isinstance(part.value, Mapping):
            odd = Text("the part is not an object", "内容项不是对象")
            # vLLM takes strings, but not in every message: see part_fields.
            loose = server.name == "vllm" and isinstance(part.value, str)
            yield Complaint(part.where, odd, action, "note" if loose else "refused")
            continue
        found = part.value.get("type")
        if found is None and server.name == "vllm" and any(name in part.value for name in MEDIA):
            continue  # vLLM goes by the field's name then
        if not isinstance(found, str) or found not in known:
            text = Text("unknown type of part: {type}", "未知的内容类型：{type}")
            yield Complaint(part.where, text.format(type=found), action)


RULE = Rule("part-type", BOTH, check)
