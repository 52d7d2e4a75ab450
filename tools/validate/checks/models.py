# SPDX-License-Identifier: Apache-2.0
"""``/v1/models`` lists the model under the name it is served as, and its context length."""

import json

from vllm_ascend_bringup.language import Text, joined
from vllm_ascend_bringup.tools.validate.checks.base import Outcome, Rule, Session, failed, passed


def run(session: Session) -> Outcome:
    """Learns the context length."""
    listed = {model["id"]: model for model in json.loads(session.client.get("/v1/models"))["data"]}
    if session.name not in listed:
        found = Text("listed: {names}; expected: {name}", "列出的是 {names}，应有 {name}")
        return failed("served-name", found.format(names=joined(listed), name=session.name))
    session.client.model = session.name
    session.max_model_len = int(listed[session.name].get("max_model_len") or 0)
    said = Text("{name}, {length} tokens of context", "{name}，上下文长度 {length} 个 token")
    return passed(said.format(name=session.name, length=session.max_model_len))


RULE = Rule("models", Text("the model is listed", "模型已列出"), run, vital=True)
