# SPDX-License-Identifier: Apache-2.0
"""The first request: one short text, at temperature 0.

A server that is ready has compiled and run the model on made-up input only. The first real request
is the first that reads a KV cache, so it is part of readiness.
"""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.base import Outcome, Rule, Session, failed, passed
from vllm_ascend_bringup.tools.validate.client import GREEDY, LOGPROBS, RefusedError

QUESTION = "What is the capital of France?"
# A model without a chat template continues texts.
_BEGINNING = "The capital of France is"
_TOKENS = 64


def run(session: Session) -> Outcome:
    """Learns whether the model chats; its answer is judged by other checks."""
    ask = {**GREEDY, **LOGPROBS}
    asked = QUESTION
    try:
        answer = session.client.chat(QUESTION, _TOKENS, logprobs=True, top_logprobs=5, **ask)
        session.chats = True
    except RefusedError as error:
        if error.status != 400 or "chat template" not in error.text:
            raise
        asked = _BEGINNING
        answer = session.client.complete(_BEGINNING, _TOKENS, logprobs=5, **ask)
    session.answers.append(answer)
    said = Text(
        "{tokens} tokens after {asked!r}: {text!r}",
        "输入 {asked!r}，得到 {tokens} 个 token：{text!r}",
    )
    said = said.format(asked=asked, tokens=answer.tokens, text=answer.text)
    return passed(said) if answer.tokens else failed("request-failed", said)


RULE = Rule("text", Text("a text is answered", "文本请求有回答"), run, first=True, vital=True)
