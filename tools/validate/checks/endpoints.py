# SPDX-License-Identifier: Apache-2.0
"""The rendered chat prompt gets the same answer from /v1/completions as from the chat endpoint."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.agreement import disagreement
from vllm_ascend_bringup.tools.validate.checks.base import (
    Outcome,
    Rule,
    Session,
    failed,
    not_applicable,
    passed,
)
from vllm_ascend_bringup.tools.validate.client import GREEDY, LOGPROBS


def run(session: Session) -> Outcome:
    """The first answer again, from the token ids of its prompt."""
    if not session.chats:
        return not_applicable(Text("the model has no chat template", "模型没有对话模板"))
    chat = session.answers[0]
    if not chat.prompt_ids:
        reason = Text("this vLLM does not return token ids", "此版本 vLLM 不返回 token id")
        return not_applicable(reason)
    plain = session.client.complete(chat.prompt_ids, chat.tokens, logprobs=5, **GREEDY, **LOGPROBS)
    if difference := disagreement(chat, plain, session.dtype):
        return failed("output-quality", difference)
    same = Text("{tokens} tokens, the same from both", "两个接口都得到相同的 {tokens} 个 token")
    return passed(same.format(tokens=plain.tokens))


RULE = Rule(
    "endpoints", Text("chat and completions agree", "对话接口与补全接口一致"), run, needs="real"
)
