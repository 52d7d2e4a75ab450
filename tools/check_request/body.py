# SPDX-License-Identifier: Apache-2.0
"""Read a request body: JSON of OpenAI's chat completions, and the media in it."""

import base64
import binascii
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from vllm_ascend_bringup.errors import BringupError, SettingsError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import MEDIA, Form, Medium, Part, Request

# The first bytes of a JPEG, in base64; MindIE takes such text for an image.
_JPEG = "/9j/"


class RequestError(BringupError):
    """A body that no server can read at all."""

    exit_code = 15


def read_request(file: Path) -> Request:
    """Read a file, or standard input for ``-``.

    Raises SettingsError if it cannot be read, RequestError if it is not one JSON value.
    """
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            Text("{file} cannot be read: {error}", "无法读取 {file}：{error}").format(
                file=file, error=error
            ),
            Text("a file of JSON in UTF-8", "UTF-8 编码的 JSON 文件"),
            Text("check the path, or give - and pipe the body in", "检查路径，或用 - 读取标准输入"),
        ) from error
    try:
        return parse_request(json.loads(text))
    except (json.JSONDecodeError, RecursionError) as error:
        raise RequestError(
            Text("{file} is not JSON: {error}", "{file} 不是 JSON：{error}").format(
                file=file, error=error
            ),
            Text("one JSON object, the body of a request", "一个 JSON 对象，即请求体"),
            Text(
                "one request per file; write it with a JSON library",
                "每个文件只放一个请求",
            ),
        ) from error


def parse_request(body: Any) -> Request:
    """A JSON value as a request. What is malformed is left to the rules."""
    messages = body.get("messages") if isinstance(body, Mapping) else None
    listed = messages if isinstance(messages, list) else []
    kept = tuple((f"messages[{n}]", m) for n, m in enumerate(listed) if isinstance(m, Mapping))
    parts = tuple(part for where, message in kept for part in _parts(where, message))
    media = tuple(medium for part in parts if (medium := _medium(part)) is not None)
    return Request(body, kept, parts, media)


def _parts(where: str, message: Mapping[str, Any]) -> Iterator[Part]:
    content = message.get("content")
    if isinstance(content, list):
        for place, value in enumerate(content):
            yield Part(f"{where}.content[{place}]", value)


def _medium(part: Part) -> Medium | None:
    """The medium of a part; None if it has none or hides it."""
    if not isinstance(part.value, Mapping):
        return None
    found: Any = part.value.get("type")
    # vLLM goes by the field's name where there is no type.
    candidates = [name for name in MEDIA if name == found or (found is None and name in part.value)]
    if not candidates:
        return None
    name: str = candidates[0]
    value = part.value.get(name)
    url: Any
    if name == "input_audio" and isinstance(value, Mapping) and isinstance(value.get("data"), str):
        # vllm/renderers/chat_utils.py, parse_input_audio.
        url = f"data:audio/{value.get('format', '')};base64,{value['data']}"
    else:
        url = value.get("url") if isinstance(value, Mapping) else value
    if not isinstance(url, str) or not url:
        return None
    form = form_of(url)
    declared: str | None = None
    data: bytes | None = None
    if form == "data":
        declared, data = _data(url)
    elif form == "bare":
        data = _decoded(url)
    return Medium(part.where, name, MEDIA[name], url, form, declared, data, _file(url, form))


def form_of(url: str) -> Form:
    """By scheme; what has none is a path."""
    scheme = url.partition(":")[0].lower() if ":" in url[:12] else ""
    if scheme == "data" or scheme == "file":
        return "data" if scheme == "data" else "file"
    if scheme.startswith("http"):
        return "http"
    if "://" in url[:20]:
        return "other"
    return "bare" if url.startswith(_JPEG) and _decoded(url) is not None else "path"


def _data(url: str) -> tuple[str, bytes | None]:
    """MIME type and bytes, None if they are not strict base64."""
    described, comma, text = url[5:].partition(",")
    declared = described.partition(";")[0].lower()
    if not comma or not described.endswith(";base64"):
        return declared, None
    return declared, _decoded(text)


def _decoded(text: str) -> bytes | None:
    """Strict base64; None if it is not."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None


def _file(url: str, form: Form) -> Path | None:
    if form == "file":
        split = urlsplit(url)
        return Path(url2pathname(split.netloc + split.path))
    return Path(url) if form == "path" and len(url) < 4096 else None
