# SPDX-License-Identifier: Apache-2.0
"""Whether two answers to the same prompt agree as far as rounding lets them.

In a batch of another shape, or with a part of the prompt from the prefix cache, sums are taken in
another order. Logits of 16 to 32, where those of likely tokens lie, are then off by a step or two
of the format that the model computes in; two tokens closer than that are a tie, and which of them
is chosen is no defect.
"""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.client import Generation

# Two steps between 16 and 32: 2 * 2**(4 - mantissa bits). Float32 results differ by much more than
# its steps, for sums are long: the bound is that of sums of some ten thousand products.
TOLERANCE = {"bfloat16": 0.25, "float16": 2.0**-5, "float32": 2e-3}


def disagreement(first: Generation, second: Generation, dtype: str) -> Text | None:
    """How they differ by more than rounding; None if they agree. They end at the same tie."""
    allowed = TOLERANCE.get(dtype, TOLERANCE["bfloat16"])
    for place, (a, b) in enumerate(zip(first.ids, second.ids, strict=False)):
        if a != b:
            gap = _gap(first, second, place)
            if gap is not None and gap <= allowed:
                return None
            text = Text(
                "token {place} is {a} in one and {b} in the other, {gap} apart; a tie is within "
                "{allowed}",
                "第 {place} 个 token 分别为 {a} 和 {b}，对数概率相差 {gap}；"
                "相差不超过 {allowed} 才算并列",
            )
            shown = Text("far", "很远") if gap is None else f"{gap:.3f}"
            return text.format(place=place + 1, a=a, b=b, gap=shown, allowed=allowed)
        difference = abs(first.logprobs[place] - second.logprobs[place])
        if not difference <= allowed:  # also if it is NaN
            text = Text(
                "the log-probability of token {place} differs by {difference:.3f}; rounding makes "
                "at most {allowed}",
                "第 {place} 个 token 的对数概率相差 {difference:.3f}；舍入误差最多为 {allowed}",
            )
            return text.format(place=place + 1, difference=difference, allowed=allowed)
    if len(first.ids) != len(second.ids):
        text = Text("{a} tokens in one, {b} in the other", "一次 {a} 个 token，另一次 {b} 个")
        return text.format(a=len(first.ids), b=len(second.ids))
    return None


def largest_difference(first: Generation, second: Generation) -> float:
    """Of log-probabilities, as far as the tokens are the same."""
    differences = [0.0]
    for a, b, x, y in zip(first.ids, second.ids, first.logprobs, second.logprobs, strict=False):
        if a != b:
            break
        differences.append(abs(x - y))
    return max(differences)


def _gap(first: Generation, second: Generation, place: int) -> float | None:
    """Between the two choices, in the answer that makes it larger."""
    names = [f"token_id:{answer.ids[place]}" for answer in (first, second)]
    gaps = []
    for answer in (first, second):
        likeliest = answer.likeliest[place]
        if not all(name in likeliest for name in names):
            return None
        gaps.append(abs(likeliest[names[0]] - likeliest[names[1]]))
    return max(gaps)
