# SPDX-License-Identifier: Apache-2.0
"""What is behind a URL is not looked at: sizes and times that will count are said instead.

vLLM: VLLM_MAX_MEDIA_DOWNLOAD_SIZE_MB and the VLLM_*_FETCH_TIMEOUT of vllm/envs.py; sounds also have
the limit of media-size.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server
from vllm_ascend_bringup.tools.check_request.rules.media_size import LIMITS, MIB

_DOWNLOAD = 256 * MIB
_SECONDS = {"image": 5, "video": 30, "audio": 10}


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A note per URL."""
    for medium in request.media:
        if medium.form != "http":
            continue
        limit = LIMITS[server.name].get(medium.kind, _DOWNLOAD) // MIB
        if server.name == "vllm":
            action = Text(
                "vLLM takes at most {limit} MiB within {seconds} s ({variable})",
                "vLLM 要求不超过 {limit} MiB，并在 {seconds} 秒内取得（{variable}）",
            ).format(
                limit=limit, seconds=_SECONDS[medium.kind],
                variable=f"VLLM_{medium.kind.upper()}_FETCH_TIMEOUT",
            )  # fmt: skip
        else:
            action = Text("MindIE takes at most {limit} MB", "MindIE 要求不超过 {limit} MB").format(
                limit=limit
            )
        found = Text("not fetched: size and format unchecked", "未下载：大小和格式未检查")
        yield Complaint(medium.where, found, action, "note")


RULE = Rule("not-fetched", BOTH, check)
