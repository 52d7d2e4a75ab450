# SPDX-License-Identifier: Apache-2.0
"""A request as the rules see it, and what a rule says of it."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from vllm_ascend_bringup.language import Text

ServerName = Literal["vllm", "mindie"]
# "refused": the server answers with an error. "note": it may, or that cannot be seen.
Severity = Literal["refused", "note"]
Kind = Literal["image", "video", "audio"]
# Where the bytes of a medium are: in the request (bare: a JPEG in base64 without "data:"), behind a
# URL, or in a file that the server reads.
Form = Literal["data", "bare", "http", "file", "path", "other"]
BOTH: tuple[ServerName, ...] = ("vllm", "mindie")
# Types of content parts that carry a medium.
MEDIA: Mapping[str, Kind] = MappingProxyType(
    {"image_url": "image", "video_url": "video", "audio_url": "audio", "input_audio": "audio"}
)

KINDS: Mapping[Kind, Text] = MappingProxyType(
    {"image": Text("image", "图像"), "video": Text("video", "视频"), "audio": Text("audio", "音频")}
)


@dataclass(frozen=True)
class Server:
    """The server that would get the request.

    ``local_media``, ``domains``, ``limits``: as --allowed-local-media-path,
    --allowed-media-domains and --limit-mm-per-prompt of ``vllm serve``.
    """

    name: ServerName
    local_media: Path | None = None
    domains: tuple[str, ...] = ()
    limits: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Medium:
    """One image, video or sound. ``url``: what was sent; of input_audio as vLLM rewrites it.

    ``declared``: the MIME type of a data URL, in lower case. ``data``: the bytes of a data URL,
    None if it cannot be decoded. ``file``: of a file URL or path.
    """

    where: str
    type: str
    kind: Kind
    url: str
    form: Form
    declared: str | None = None
    data: bytes | None = None
    file: Path | None = None

    def size(self) -> int | None:
        """Bytes; None if they are not here."""
        if self.file is not None:
            return self.file.stat().st_size if self.file.is_file() else None
        return None if self.data is None else len(self.data)

    def head(self, count: int = 64) -> bytes | None:
        """The first bytes, None if they are not here."""
        if self.file is None:
            return None if self.data is None else self.data[:count]
        try:
            with self.file.open("rb") as opened:
                return opened.read(count)
        except OSError:
            return None


@dataclass(frozen=True)
class Part:
    """One content part. ``value``: as sent, of any type."""

    where: str
    value: Any


@dataclass(frozen=True)
class Request:
    """``body``: as sent. ``messages``: those that are objects, with where they stand."""

    body: Any
    messages: tuple[tuple[str, Mapping[str, Any]], ...]
    parts: tuple[Part, ...]
    media: tuple[Medium, ...]


@dataclass(frozen=True)
class Objection:
    """What a rule found. ``where``: as a path into the body."""

    rule: str
    severity: Severity
    where: str
    found: Text
    action: Text


@dataclass(frozen=True)
class Rule:
    """``check``: yields where, severity, what was found, what to do."""

    id: str
    servers: tuple[ServerName, ...]
    check: Callable[[Request, Server], Iterator["Complaint"]]


@dataclass(frozen=True)
class Complaint:
    """An objection before it has its rule's id."""

    where: str
    found: Text
    action: Text
    severity: Severity = "refused"
