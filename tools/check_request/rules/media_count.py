# SPDX-License-Identifier: Apache-2.0
"""How many media of a kind one prompt may have.

vLLM: validate_num_items in vllm/multimodal/processing/context.py, from --limit-mm-per-prompt.
Models have limits of their own besides, which only the server knows.
"""

from collections import Counter
from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.check_request.base import KINDS, Complaint, Request, Rule, Server


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """A complaint per kind of which there are too many."""
    counted = Counter(medium.kind for medium in request.media)
    for kind, count in counted.items():
        limit = server.limits.get(kind)
        if limit is not None and count > limit:
            yield Complaint(
                "messages",
                Text("{kind}: {count}; the server takes {limit}",
                     "{kind}共 {count} 个；服务上限 {limit}").format(
                    kind=KINDS[kind], count=count, limit=limit
                ),
                Text("send fewer, or raise --limit-mm-per-prompt",
                     "减少数量，或调大 --limit-mm-per-prompt"),
            )  # fmt: skip


RULE = Rule("media-count", ("vllm",), check)
