# SPDX-License-Identifier: Apache-2.0
"""The same request gets the same answer: twice alone, and in the company of others."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.agreement import (
    TOLERANCE,
    disagreement,
    largest_difference,
)
from vllm_ascend_bringup.tools.validate.checks.base import Outcome, Rule, Session, failed, passed
from vllm_ascend_bringup.tools.validate.client import GREEDY, LOGPROBS

_PROMPT = "The capital of France is"
_OTHERS = ("A week has", "The color of the sky is", "Bees", "One two three four five six")
_TOKENS = 16


def run(session: Session) -> Outcome:
    """Goes on past the end of a text, so that there is something to compare."""
    ask = {"logprobs": 5, "ignore_eos": True, **GREEDY, **LOGPROBS}
    first = session.client.complete(_PROMPT, _TOKENS, **ask)
    again = session.client.complete(_PROMPT, _TOKENS, **ask)
    among = session.client.complete_all((_PROMPT, *_OTHERS), _TOKENS, **ask)[0]
    for other, where in (
        (again, Text("alone, twice", "单独请求两次")),
        (among, Text("alone and among others", "单独与并发")),
    ):  # fmt: skip
        if difference := disagreement(first, other, session.dtype):
            text = Text("{where}: {difference}", "{where}：{difference}")
            return failed("nondeterministic", text.format(where=where, difference=difference))
    said = Text(
        "{tokens} tokens; log-probabilities differ by at most {again:.3g} alone and {among:.3g} "
        "among others (allowed: {allowed:g})",
        "{tokens} 个 token；对数概率相差：单独 {again:.3g}，并发 {among:.3g}（允许 {allowed:g}）",
    )
    return passed(said.format(
        tokens=first.tokens, again=largest_difference(first, again),
        among=largest_difference(first, among),
        allowed=TOLERANCE.get(session.dtype, TOLERANCE["bfloat16"]),
    ))  # fmt: skip


RULE = Rule(
    "determinism", Text("the same answer every time", "同一请求结果一致"), run, needs="real"
)
