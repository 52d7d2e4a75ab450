# SPDX-License-Identifier: Apache-2.0
"""What a data URL says that it is.

MindIE refuses types outside of its table. vLLM goes by the content; a wrong declaration is noted,
because other servers and proxies do not.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.check_request.base import BOTH, Complaint, Request, Rule, Server
from vllm_ascend_bringup.tools.check_request.formats import MINDIE_TYPES, TYPES, format_of


def check(request: Request, server: Server) -> Iterator[Complaint]:
    """Complaints about types that are not taken or not true."""
    for medium in request.media:
        # vLLM makes the type of input_audio up; its format is the business of part-fields.
        if medium.declared is None or medium.type == "input_audio":
            continue
        known = [name for name in MINDIE_TYPES if name.startswith(f"{medium.kind}/")]
        if server.name == "mindie" and medium.declared not in known:
            yield Complaint(
                medium.where,
                Text("declared as {type}", "声明的类型为 {type}").format(
                    type=medium.declared or "–"
                ),
                Text("MindIE takes {known}", "MindIE 支持 {known}").format(known=joined(known)),
            )
        actual = format_of(medium.data or b"")
        declared = TYPES.get(medium.declared)
        if actual and declared and actual != declared:
            yield Complaint(
                medium.where,
                Text("declared as {declared}, but it is {actual}",
                     "声明为 {declared}，实际为 {actual}").format(
                    declared=medium.declared, actual=actual
                ),
                Text("declare what it is", "请按实际格式声明"), "note",
            )  # fmt: skip


RULE = Rule("declared-format", BOTH, check)
