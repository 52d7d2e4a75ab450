# SPDX-License-Identifier: Apache-2.0
"""How large a medium may be.

MindIE: 20 MB per image or sound and 512 MB per video, read from a file or fetched (its FAQ on
multimodal input; its "4MB" of a message is 4194304, so a MB is taken as 2**20). vLLM: 25 MiB per
sound, VLLM_MAX_AUDIO_CLIP_FILESIZE_MB (vllm/multimodal/media/audio.py); images and videos are
limited only when fetched.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import (
    BOTH,
    KINDS,
    Complaint,
    Kind,
    Request,
    Rule,
    Server,
    ServerName,
)  # fmt: skip

MIB = 2**20
LIMITS: Mapping[ServerName, Mapping[Kind, int]] = MappingProxyType(
    {
        "vllm": {"audio": 25 * MIB},
        "mindie": {"image": 20 * MIB, "video": 512 * MIB, "audio": 20 * MIB},
    }
)


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per medium that is too large."""
    for medium in request.media:
        limit = LIMITS[server.name].get(medium.kind)
        size = medium.size()
        if limit is not None and size is not None and size > limit:
            yield Complaint(
                medium.where,
                Text("{kind} of {size} MiB; at most {limit}",
                     "{kind}大小为 {size} MiB；上限 {limit}").format(
                    kind=KINDS[medium.kind], size=f"{size / MIB:.2f}", limit=limit // MIB
                ),
                Text("make it smaller or shorter", "请压缩或截短"),
            )  # fmt: skip


RULE = Rule("media-size", BOTH, check)
