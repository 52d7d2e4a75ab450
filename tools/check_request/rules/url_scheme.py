# SPDX-License-Identifier: Apache-2.0
"""Where the server may look for a medium.

vLLM takes http, https, data and file URLs (vllm/multimodal/media/connector.py, load_from_url);
MindIE also plain paths, and a
JPEG in base64 as it is.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per URL that the server does not open."""
    for medium in request.media:
        start = medium.url[:60]
        if medium.form == "other" or (medium.form in ("path", "bare") and server.name == "vllm"):
            yield Complaint(
                medium.where,
                Text("{start}: no http, data or file URL",
                     "{start}：不是 http、data 或 file URL").format(start=start),
                Text("put file:// before an absolute path, or send a data URL",
                     "在绝对路径前加 file://，或改用 data URL"),
            )  # fmt: skip
        elif medium.form == "http" and not _has_host(medium.url):
            yield Complaint(
                medium.where,
                Text("{start}: not a URL that can be fetched", "{start}：无法访问的 URL").format(
                    start=start
                ),
                Text("write http:// or https:// and a host", "应为 http:// 或 https:// 加主机名"),
            )


def _has_host(url: str) -> bool:
    split = urlsplit(url)
    return split.scheme in ("http", "https") and bool(split.hostname)


RULE = Rule("url-scheme", BOTH, check)
