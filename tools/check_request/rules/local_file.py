# SPDX-License-Identifier: Apache-2.0
"""The server reads local files only where it may, and they must be there.

vLLM: _load_file_url in vllm/multimodal/media/connector.py.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per file that the server may not read or will not find."""
    allowed = server.local_media
    for medium in request.media:
        if medium.file is None or (medium.form == "path" and server.name == "vllm"):
            continue
        if server.name == "vllm" and allowed is None:
            yield Complaint(medium.where, _REFUSED, _ALLOW)
        elif allowed is not None and allowed.resolve() not in medium.file.resolve().parents:
            outside = Text("{file} is not below {allowed}", "{file} 不在 {allowed} 之下")
            yield Complaint(
                medium.where,
                outside.format(file=medium.file, allowed=allowed),
                Text("move the file or allow its directory", "移动文件，或允许其所在目录"),
            )
        elif medium.head() is None:
            found = Text("{file} cannot be read here", "此处无法读取 {file}")
            yield Complaint(medium.where, found.format(file=medium.file), _ELSEWHERE)


_REFUSED = Text("a file URL, which vLLM refuses by default", "file URL，vLLM 默认拒绝")
_ALLOW = Text(
    "start vllm serve with --allowed-local-media-path and give the same here, or send a data URL",
    "启动 vllm serve 时加 --allowed-local-media-path 并在此给出相同的值，或改用 data URL",
)
_ELSEWHERE = Text(
    "check the path; the server reads it on its own machine, in its own container",
    "检查路径；服务在自己的机器和容器中读取该文件",
)
RULE = Rule("local-file", BOTH, check)
