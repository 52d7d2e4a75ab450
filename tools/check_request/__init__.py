# SPDX-License-Identifier: Apache-2.0
"""``bringup check-request``: what a server would refuse of a request, before it is sent.

When to use it: when a client gets an error for a picture, a video or a sound, or before a large
body is sent. It reads the body and local files, and fetches nothing.

What it cannot see: what is behind a URL, whether a video or a sound decodes to its end, and what
the model's chat template or its processor will say.
"""

from dataclasses import asdict, dataclass
from typing import Any

from vllm_ascend_bringup.tools.check_request.base import Objection, Request, Server
from vllm_ascend_bringup.tools.check_request.body import RequestError
from vllm_ascend_bringup.tools.check_request.rules.catalog import RULES

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class RequestReport:
    """``media``: how many of them were found. ``objections``: refusals first."""

    server: str
    messages: int
    media: int
    objections: tuple[Objection, ...]

    @property
    def exit_code(self) -> int:
        """15 if the server would refuse something, else 0."""
        refused = any(objection.severity == "refused" for objection in self.objections)
        return RequestError.exit_code if refused else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object; texts in both languages."""
        return {"schema_version": SCHEMA_VERSION, "command": "check-request", **asdict(self)}


def check_request(request: Request, server: Server) -> RequestReport:
    """Ask every rule of this server."""
    found = [
        Objection(rule.id, said.severity, said.where, said.found, said.action)
        for rule in RULES
        if server.name in rule.servers
        for said in rule.check(request, server)
    ]
    found.sort(key=lambda objection: objection.severity != "refused")
    return RequestReport(server.name, len(request.messages), len(request.media), tuple(found))
