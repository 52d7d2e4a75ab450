# SPDX-License-Identifier: Apache-2.0
"""Formats of media: how their files begin, and which the servers take.

Sources: MindIE: its FAQ on the formats of image_url, video_url and audio_url. vLLM: what Pillow,
FFmpeg (through OpenCV) and libsndfile open.
"""

from collections.abc import Mapping
from types import MappingProxyType

from vllm_ascend_bringup.tools.check_request.base import Kind

# Offset and bytes by which a file is known; all of one entry must be there.
_MAGIC: tuple[tuple[str, tuple[tuple[int, bytes], ...]], ...] = (
    ("png", ((0, b"\x89PNG\r\n\x1a\n"),)),
    ("jpeg", ((0, b"\xff\xd8\xff"),)),
    ("gif", ((0, b"GIF8"),)),
    ("webp", ((0, b"RIFF"), (8, b"WEBP"))),
    ("bmp", ((0, b"BM"),)),
    ("tiff", ((0, b"II*\x00"),)),
    ("tiff", ((0, b"MM\x00*"),)),
    ("ico", ((0, b"\x00\x00\x01\x00"),)),
    ("jpeg2000", ((4, b"jP  "),)),
    ("avif", ((4, b"ftypavif"),)),
    ("heic", ((4, b"ftyphei"),)),
    ("heic", ((4, b"ftypmif1"),)),
    ("m4a", ((4, b"ftypM4A"),)),
    ("mp4", ((4, b"ftyp"),)),
    ("avi", ((0, b"RIFF"), (8, b"AVI "))),
    ("wmv", ((0, b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),)),
    ("matroska", ((0, b"\x1a\x45\xdf\xa3"),)),
    ("flv", ((0, b"FLV"),)),
    ("mpeg", ((0, b"\x00\x00\x01\xba"),)),
    ("wav", ((0, b"RIFF"), (8, b"WAVE"))),
    ("flac", ((0, b"fLaC"),)),
    ("mp3", ((0, b"ID3"),)),
    ("ogg", ((0, b"OggS"),)),
    ("aiff", ((0, b"FORM"), (8, b"AIFF"))),
    ("pdf", ((0, b"%PDF"),)),
    ("svg", ((0, b"<svg"),)),
    ("html", ((0, b"<!"),)),
    ("eps", ((0, b"%!PS"),)),
)
# vLLM's image decoder has more (vllm/multimodal/image.py, ALLOWED_IMAGE_FORMATS); these have magic.
VLLM: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "image": frozenset(
            {"png", "jpeg", "gif", "webp", "bmp", "tiff", "ico", "jpeg2000", "avif"}
        ),
        "video": frozenset({"mp4", "avi", "wmv", "matroska", "flv", "mpeg", "gif"}),
        "audio": frozenset(
            {"wav", "flac", "mp3", "ogg", "aiff", "m4a", "mp4", "matroska", "avi", "wmv"}
        ),
    }
)  # fmt: skip
MINDIE: Mapping[Kind, frozenset[str]] = MappingProxyType(
    {
        "image": frozenset({"jpeg", "png"}),
        "video": frozenset({"mp4", "avi", "wmv"}),
        "audio": frozenset({"mp3", "wav", "flac"}),
    }
)
# MIME types that MindIE's table has, and those that say the same elsewhere.
MINDIE_TYPES: Mapping[str, str] = MappingProxyType(
    {
        "image/jpeg": "jpeg", "image/png": "png", "video/mp4": "mp4", "video/x-msvideo": "avi",
        "video/x-ms-wmv": "wmv", "audio/mpeg": "mp3", "audio/x-wav": "wav", "audio/flac": "flac",
    }
)  # fmt: skip
_OTHER_TYPES = MappingProxyType(
    {
        "image/jpg": "jpeg", "image/gif": "gif", "image/webp": "webp", "image/bmp": "bmp",
        "image/tiff": "tiff", "image/avif": "avif", "image/heic": "heic", "video/avi": "avi",
        "video/webm": "matroska", "audio/mp3": "mp3", "audio/wav": "wav", "audio/x-flac": "flac",
        "audio/ogg": "ogg", "audio/mp4": "m4a",
    }
)  # fmt: skip
TYPES: Mapping[str, str] = MappingProxyType({**MINDIE_TYPES, **_OTHER_TYPES})


def format_of(head: bytes) -> str | None:
    """The format of a file that begins so (16 bytes are enough); None if it is not known."""
    for name, signs in _MAGIC:
        if all(head[at : at + len(sign)] == sign for at, sign in signs):
            return name
    # An MPEG audio frame without tags: eleven bits set, layer not reserved.
    if len(head) > 1 and head[0] == 0xFF and head[1] & 0xE0 == 0xE0 and head[1] & 0x06:
        return "mp3"
    return None
