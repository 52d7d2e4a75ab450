# SPDX-License-Identifier: Apache-2.0
"""A data URL is strict base64, with the comma and the word where they belong.

vLLM: _load_data_url in vllm/multimodal/media/connector.py, and pybase64 with validate=True, which
takes neither line breaks nor the URL-safe alphabet.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server

_ACTION = Text(
    "encode it again: data:<type>;base64,<standard base64 in one line>",
    "请重新编码：data:<类型>;base64,<单行标准 base64>",
)


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per data URL that cannot be decoded."""
    for medium in request.media:
        if medium.form != "data" or medium.data is not None:
            continue
        described, comma, _ = medium.url[5:].partition(",")
        if not comma:
            found = Text("a data URL without a comma", "data URL 缺少逗号")
        elif not described.endswith(";base64"):
            found = Text("a data URL that is not base64", "data URL 不是 base64")
        else:
            found = Text("malformed base64", "base64 数据不合法")
        yield Complaint(medium.where, found, _ACTION)


RULE = Rule("data-url", BOTH, check)
