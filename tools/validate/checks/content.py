# SPDX-License-Identifier: Apache-2.0
"""The answers are text: not empty, without pieces of the template, not one thing said for ever."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.checks.base import Outcome, Rule, Session, failed, passed

# A defect repeats one token or two ("!!!!", "the the"): every token is the one a few places
# before. Greedy decoding of a sound model may fall into a loop too, but of whole sentences, and a
# table repeats its separators: below half. Fewer tokens than this prove nothing.
_LONGEST_PERIOD = 4
_REPEATED_SHARE = 0.5
_FEWEST_TOKENS = 16
# Markers that templates spell out, whether or not the tokenizer lists them.
_MARKER = re.compile(r"<[|｜][^<>\s]{1,40}[|｜]>|\[/?INST\]|<(?:start|end)_of_turn>")
_ROLE = re.compile(r"(system|user|assistant)\s*[:\n]")


def markers(folder: Path) -> frozenset[str]:
    """Special tokens of a tokenizer, and what its chat template puts between messages."""
    found: set[str] = set()
    settings, tokenizer = _read(folder / "tokenizer_config.json"), _read(folder / "tokenizer.json")
    added = list((settings.get("added_tokens_decoder") or {}).values())
    for token in added + list(tokenizer.get("added_tokens") or ()):
        if token.get("special"):
            found.add(token.get("content", ""))
    for file in ("chat_template.jinja", "tokenizer_config.json"):
        if (folder / file).exists():
            found.update(_MARKER.findall((folder / file).read_text(errors="replace")))
    return frozenset(token for token in found if len(token) > 1)


def repeated_share(ids: Sequence[int]) -> float:
    """Of tokens that are the one 1, 2, 3 or 4 places before, whichever is most; 0 to 1."""
    if len(ids) < _FEWEST_TOKENS:
        return 0.0
    return max(
        sum(a == b for a, b in zip(ids, ids[period:], strict=False)) / (len(ids) - period)
        for period in range(1, _LONGEST_PERIOD + 1)
    )


def run(session: Session) -> Outcome:
    """Judges the answers that other checks got."""
    special = markers(session.folder)
    evidence: list[Text | str] = []
    for answer in session.answers:
        share = repeated_share(answer.ids)
        found = sorted(token for token in special if token in answer.text)
        wrong: Text | None = None
        if not answer.text.strip():
            wrong = Text("an empty answer of {n} tokens", "{n} 个 token 的回答为空").format(
                n=answer.tokens
            )
        elif found or _ROLE.match(answer.text.strip()):
            wrong = Text("pieces of the template in {text!r}", "回答 {text!r} 中有模板残留").format(
                text=answer.text
            )
        elif share > _REPEATED_SHARE:
            wrong = Text(
                "{share:.0%} of its tokens repeat one of the last {period} (at most {most:.0%})",
                "{share:.0%} 的 token 与前 {period} 个之一周期性重复（上限 {most:.0%}）",
            ).format(share=share, period=_LONGEST_PERIOD, most=_REPEATED_SHARE)
        if wrong:
            return failed("output-quality", *evidence, wrong)
        said = Text(
            "{tokens} tokens, {share:.0%} repeated (at most {most:.0%}), none of {count} markers",
            "{tokens} 个 token，重复 {share:.0%}（上限 {most:.0%}），{count} 种模板标记均未出现",
        )
        evidence.append(said.format(tokens=answer.tokens, share=share, most=_REPEATED_SHARE,
                                    count=len(special)))  # fmt: skip
    return passed(*evidence)


def _read(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


RULE = Rule("content", Text("the answers are text", "回答是正常文本"), run, needs="trained")
