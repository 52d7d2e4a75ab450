# SPDX-License-Identifier: Apache-2.0
"""Plain sentences are likely to a model whose weights are right.

Weights that were permuted, scaled wrongly or left empty still answer, fluently at times. What gives
them away is what they think of ordinary text: near or above the log of the vocabulary's size,
which is what somebody would say who knows nothing. A trained model needs a fraction of that for
facts that every corpus repeats.
"""

import math
from collections.abc import Sequence

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.base import (
    Outcome,
    Rule,
    Session,
    failed,
    not_applicable,
    passed,
)
from vllm_ascend_bringup.tools.validate.client import GREEDY, RefusedError

# Of each language the mean counts, and the better language: a model need not know both.
SENTENCES = {
    "English": (
        "The capital of Japan is Tokyo.",
        "The capital of France is Paris.",
        "A week has seven days.",
        "The color of the sky is blue.",
    ),
    "Chinese": ("日本的首都是东京。", "法国的首都是巴黎。", "一个星期有七天。", "天空是蓝色的。"),
}
# Halfway to knowing nothing: as if each token were chosen among the square root of the vocabulary.
_LARGEST_SHARE = 0.5


def run(session: Session) -> Outcome:
    """Asks for log-probabilities of prompts."""
    try:
        means = {language: _mean(session, texts) for language, texts in SENTENCES.items()}
    except RefusedError as error:
        if error.status >= 500:
            raise
        reason = Text(
            "no log-probabilities of prompts here: {why}", "此处无法取得提示词的对数概率：{why}"
        )
        return not_applicable(reason.format(why=error.text))
    # A NaN is worse than everything.
    language, best = min(
        means.items(), key=lambda mean: math.inf if mean[1] != mean[1] else mean[1]
    )
    nothing = math.log(session.model.vocabulary)
    said = Text(
        "{language} sentences: {best:.2f} nats per token; knowing nothing: {nothing:.2f}; allowed: "
        "{allowed:.2f}",
        "{language}句子平均每个 token {best:.2f} 奈特；一无所知时为 {nothing:.2f}；"
        "上限 {allowed:.2f}",
    ).format(
        language=Text(language, {"English": "英文", "Chinese": "中文"}[language]), best=best,
        nothing=nothing, allowed=_LARGEST_SHARE * nothing,
    )  # fmt: skip
    return passed(said) if best <= _LARGEST_SHARE * nothing else failed("output-quality", said)


def _mean(session: Session, texts: Sequence[str]) -> float:
    """In nats per token, all tokens of all sentences alike."""
    found = [
        -logprob
        for answer in session.client.complete_all(texts, 1, prompt_logprobs=0, **GREEDY)
        for logprob in answer.prompt_logprobs
    ]
    return sum(found) / len(found) if found else math.nan


RULE = Rule(
    "likelihood", Text("plain sentences are likely", "普通句子的概率正常"), run, needs="trained"
)
