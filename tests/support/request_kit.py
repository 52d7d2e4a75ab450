# SPDX-License-Identifier: Apache-2.0
"""Requests with media, and whether vLLM's own code takes them."""

import base64
import io
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

# Enough of each format for its magic; only images are whole.
HEADS = {
    "mp4": b"\x00\x00\x00\x18ftypisom", "avi": b"RIFF\x00\x00\x00\x00AVI LIST",
    "wmv": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9", "wav": b"RIFF\x00\x00\x00\x00WAVEfmt ",
    "mp3": b"ID3\x04", "frame": b"\xff\xfb\x90\x64", "flac": b"fLaC\x00", "ogg": b"OggS\x00",
    "webm": b"\x1a\x45\xdf\xa3", "heic": b"\x00\x00\x00\x18ftypheic", "pdf": b"%PDF-1.7",
}  # fmt: skip


def image(format_: str, size: tuple[int, int] = (5, 3)) -> bytes:
    """A whole image, as Pillow writes it."""
    buffer = io.BytesIO()
    Image.new("RGB", size, (10, 200, 30)).save(buffer, format_)
    return buffer.getvalue()


def data_url(content: bytes, type_: str = "image/png") -> str:
    return f"data:{type_};base64,{base64.b64encode(content).decode()}"


def part(url: object, kind: str = "image") -> dict[str, Any]:
    return {"type": f"{kind}_url", f"{kind}_url": {"url": url}}


def body(*parts: object) -> dict[str, Any]:
    """One user message of these parts and a question."""
    question = {"type": "text", "text": "What is this? 这是什么？"}
    return {"model": "m", "messages": [{"role": "user", "content": [*parts, question]}]}


def vllm_refusal(request: dict[str, Any], local_media: Path | None = None) -> str | None:
    """What vLLM's request model, part parser and media connector say; None if they take it.

    A medium that needs a package which is not installed (sound) counts as taken: it came as far as
    decoding. Nothing is fetched: a URL counts as taken once vLLM would connect.
    """
    from pydantic import ValidationError
    from vllm.connections import global_http_connection
    from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
    from vllm.multimodal.media import MediaConnector
    from vllm.renderers.chat_utils import _parse_chat_message_content_part

    class Connected(Exception):
        """vLLM is about to fetch."""

    def connect(url: str, **options: Any) -> bytes:
        if urlsplit(url).hostname:
            raise Connected
        return bytes(global_http_connection.get_bytes(url, **options))

    connector = MediaConnector(
        connection=SimpleNamespace(get_bytes=connect),  # type: ignore[arg-type]
        allowed_local_media_path=str(local_media or ""),
    )

    class Parser:
        model_config = SimpleNamespace(enable_prompt_embeds=False)

        def parse_image(self, url: str | None, uuid: str | None) -> None:
            if url:
                connector.fetch_image(url)

        def parse_video(self, url: str | None, uuid: str | None) -> None:
            if url:
                connector.fetch_video(url)

        def parse_audio(self, url: str | None, uuid: str | None) -> None:
            if url:
                connector.fetch_audio(url)

        def parse_input_audio(self, sound: dict[str, str], uuid: str | None) -> None:
            self.parse_audio(f"data:audio/{sound.get('format', '')};base64,{sound['data']}", uuid)

    try:
        for message in ChatCompletionRequest.model_validate(request).messages:
            content = message.get("content")
            for one in [] if content is None or isinstance(content, str) else content:
                _parse_chat_message_content_part(
                    one, Parser(), wrap_dicts=True, interleave_strings=False  # type: ignore[arg-type]
                )  # fmt: skip
    except (Connected, ImportError):
        return None
    except (ValidationError, Exception) as error:
        return f"{type(error).__name__}: {error}"
    return None
