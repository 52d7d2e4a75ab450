# SPDX-License-Identifier: Apache-2.0
"""Requests of different lengths at once are all answered."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.base import Outcome, Rule, Session, failed, passed
from vllm_ascend_bringup.tools.validate.client import GREEDY

# Enough for several to be decoded in one batch while others are prefilled.
_REQUESTS = 16
_TOKENS = 16


def run(session: Session) -> Outcome:
    """Prompts of 1 to 16 times a few words."""
    longest = max(1, session.max_model_len - _TOKENS) // 8
    prompts = ["one two three " * min(1 + i, max(1, longest // 8)) for i in range(_REQUESTS)]
    answers = session.client.complete_all(prompts, _TOKENS, ignore_eos=True, **GREEDY)
    short = [answer.tokens for answer in answers if answer.tokens != _TOKENS]
    said = Text(
        "{requests} requests at once, {tokens} tokens each: {right} complete",
        "并发 {requests} 个请求，每个生成 {tokens} 个 token：{right} 个完整",
    ).format(requests=_REQUESTS, tokens=_TOKENS, right=_REQUESTS - len(short))
    return failed("request-failed", said) if short else passed(said)


RULE = Rule("burst", Text("many requests at once", "并发请求"), run)
