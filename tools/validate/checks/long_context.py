# SPDX-License-Identifier: Apache-2.0
"""A prompt that fills the context is answered, and one that does not fit is refused, not fatal."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.base import (
    Outcome,
    Rule,
    Session,
    failed,
    not_applicable,
    passed,
)
from vllm_ascend_bringup.tools.validate.client import GREEDY, LOGPROBS, Client, RefusedError

_SENTENCE = "The quick brown fox jumps over the lazy dog. "
_TOKENS = 4


def filling(client: Client, length: int) -> tuple[int, ...]:
    """So many token ids of ordinary text; none if this vLLM does not say which they are."""
    ids = client.complete(_SENTENCE, 1, **GREEDY, **LOGPROBS).prompt_ids
    return (ids * (length // len(ids) + 1))[:length] if ids else ()


def run(session: Session) -> Outcome:
    """The length is what /v1/models states."""
    length = session.max_model_len - _TOKENS
    prompt = filling(session.client, max(length, 0))
    if not prompt:
        reason = Text("the context length is not known here", "此处无法得知上下文长度")
        return not_applicable(reason)
    answer = session.client.complete(prompt, _TOKENS, ignore_eos=True, **GREEDY)
    said = Text(
        "{prompt} tokens of prompt and {tokens} generated, of {limit}",
        "提示词 {prompt} 个 token，生成 {tokens} 个，上限 {limit}",
    ).format(prompt=answer.prompt_tokens, tokens=answer.tokens, limit=session.max_model_len)
    if (answer.prompt_tokens, answer.tokens) != (length, _TOKENS):
        return failed("request-failed", said)
    try:
        session.client.complete((*prompt, *prompt[: _TOKENS + 1]), 1, **GREEDY)
    except RefusedError as error:
        if error.status == 400:
            refused = Text(
                "one token more is refused with HTTP 400", "超出一个 token 时以 HTTP 400 拒绝"
            )
            return passed(said, refused)
        raise
    return failed(
        "request-failed", said, Text("a prompt that does not fit was taken", "放不下的提示词被接受")
    )


RULE = Rule("long-context", Text("the whole context", "完整上下文长度"), run)
