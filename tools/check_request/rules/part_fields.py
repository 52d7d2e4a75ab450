# SPDX-License-Identifier: Apache-2.0
"""A part has what its type needs, in the form in which the server wants it.

vLLM checks parts that have a type against OpenAI's: the URL stands in an object, unless the part
has a uuid or no type (vllm/renderers/chat_utils.py, _parse_chat_message_content_mm_part). MindIE
takes both forms.

A text part without text, or a sound without its format, is refused by vLLM or not by what stands
beside it (pydantic tries several models of a message, and one that knows media leaves its parts
alone): a note.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.check_request.base import (
    BOTH,
    MEDIA,
    Complaint,
    Part,
    Request,
    Rule,
    Server,
    Severity,
)  # fmt: skip
from vllm_ascend_bringup.tools.check_request.formats import MINDIE


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """Complaints about text, url, data and format."""
    for part in request.parts:
        if not isinstance(part.value, Mapping):
            continue
        found = part.value.get("type")
        if found == "text" and not isinstance(part.value.get("text"), str):
            text = Text("a text part without text", "文本内容缺少 text")
            yield Complaint(
                part.where, text, Text("put a string there", "请填写字符串"), _loosely(server)
            )
        elif found == "input_audio":
            yield from _input_audio(part, server)
        elif isinstance(found, str) and found in MEDIA:
            yield from _url(part, found, server)


def _loosely(server: Server) -> Severity:
    return "note" if server.name == "vllm" else "refused"


def _url(part: Part, name: str, server: Server) -> Iterator[Complaint]:
    value = part.value.get(name)
    action = Text('write "{name}": {{"url": "..."}}', '请写成 "{name}": {{"url": "..."}}')
    if isinstance(value, Mapping) and isinstance(value.get("url"), str):
        if not value["url"]:
            yield Complaint(
                part.where, Text("the URL is empty", "URL 为空"), action.format(name=name), "note"
            )
        return
    if isinstance(value, str) and server.name == "mindie":
        return
    if server.name == "vllm" and part.value.get("uuid") is not None:
        return
    if isinstance(value, str):
        found = Text("{name} is a string", "{name} 是字符串")
    else:
        found = Text("{name} has no url", "{name} 缺少 url")
    yield Complaint(part.where, found.format(name=name), action.format(name=name))


def _input_audio(part: Part, server: Server) -> Iterator[Complaint]:
    value: Any = part.value.get("input_audio")
    formats = joined(sorted(MINDIE["audio"]))
    action = Text(
        'write "input_audio": {{"data": "<base64>", "format": "wav"}}',
        '请写成 "input_audio": {{"data": "<base64>", "format": "wav"}}',
    ).format()
    if not isinstance(value, Mapping) or not all(
        isinstance(value.get(name), str) for name in ("data", "format")
    ):
        found = Text("input_audio needs data and format", "input_audio 缺少 data 或 format")
        yield Complaint(part.where, found, action, _loosely(server))
    elif server.name == "mindie" and value["format"].lower() not in MINDIE["audio"]:
        found = Text("input_audio of format {format}", "input_audio 的 format 为 {format}")
        yield Complaint(
            part.where, found.format(format=value["format"]),
            Text("convert it; MindIE takes {formats}", "请转换格式；MindIE 支持 {formats}").format(
                formats=formats
            ),
        )  # fmt: skip


RULE = Rule("part-fields", BOTH, check)
