# SPDX-License-Identifier: Apache-2.0
"""URLs lead to hosts that the server was told to trust.

vLLM: _assert_url_in_allowed_media_domains in vllm/multimodal/media/connector.py.
"""

from collections.abc import Iterator
from urllib.parse import urlsplit

from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.check_request.base import Complaint, Request, Rule, Server


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per host outside of --allowed-media-domains."""
    for medium in request.media:
        if medium.form != "http" or not server.domains:
            continue
        host = urlsplit(medium.url).hostname
        if host not in server.domains:
            yield Complaint(
                medium.where,
                Text("{host} is not allowed", "{host} 不在允许的主机之列").format(host=host),
                Text("allowed: {domains}", "允许的主机：{domains}").format(
                    domains=joined(server.domains)
                ),
            )


RULE = Rule("media-domain", ("vllm",), check)
