# SPDX-License-Identifier: Apache-2.0
"""From what fired to what is the cause.

Findings are ordered by how much their best line says (Says), then by what comes first in the log:
a reason before a fault, a fault before a code, the first failure before what it triggered.
On one line the pattern that also asked for its surroundings wins.
A guess is given only where nothing is known. Wrappers never outrank anything; where there is
nothing else, the log is insufficient. Three
things need more than that:

- a rank that only waited for another one (``Signature.waits``) comes after any fault elsewhere;
- ``false-ready``: an engine that was seen ready, or whose API server outlived it, and died of an
  error that no line names in words;
- several files are ordered by vLLM's time stamps where all findings have one.
"""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Finding, Says
from vllm_ascend_bringup.tools.diagnose.scan import SERVED, Hits, Story
from vllm_ascend_bringup.tools.diagnose.signatures import false_ready, insufficient_log

_CONFIDENCE = {
    Says.WHY: 0.95,
    Says.WHAT: 0.8,
    Says.CODE: 0.6,
    Says.GUESS: 0.4,
    Says.ECHO: 0.3,
}
# Of a finding that may well have been triggered by the first one.
_SECONDARY = 0.5
_NO_FAILURE = Text("No failure is seen in this log", "日志中没有看到失败")
_EMPTY = Text("The log is empty", "日志为空")


def ranked(story: Story) -> tuple[Finding, ...]:
    """All findings, most likely first; never none."""
    _judge_false_ready(story)
    known = any(hit.says > Says.GUESS for hit in story.hits.values())
    hits = [hit for hit in story.hits.values() if not (known and hit.says is Says.GUESS)]
    causes = [hit for hit in hits if hit.says > Says.ECHO]
    several_files = len({hit.excerpts[0].file for hit in causes}) > 1
    by_time = several_files and all(hit.when for hit in causes)

    def place(hit: Hits) -> tuple[bool, int, str, int, bool]:
        insufficient = not causes and hit.signature is insufficient_log.SIGNATURE
        return (
            _waited_for_another(hit, causes),
            -hit.says - insufficient,
            hit.when if by_time else "",
            hit.order,
            hit.loose,
        )

    shown = [hit for hit in hits if not causes or hit.signature is not insufficient_log.SIGNATURE]
    shown.sort(key=place)
    findings = [_finding(hit, secondary=place_ > 0) for place_, hit in enumerate(shown)]
    if not causes and insufficient_log.SIGNATURE.id not in story.hits:
        findings.insert(0, _nothing(story))
    return tuple(findings)


def _finding(hit: Hits, secondary: bool) -> Finding:
    confidence = _CONFIDENCE[hit.says] * (_SECONDARY if secondary else 1)
    signature = hit.signature
    return Finding(
        signature.id, round(confidence, 2), signature.title, tuple(hit.excerpts), signature.actions
    )


def _nothing(story: Story) -> Finding:
    """Not even a wrapper fired: say that no failure is seen rather than claim one."""
    signature = insufficient_log.SIGNATURE
    evidence = (story.ready,) if story.ready else ()
    title = _NO_FAILURE if story.lines else _EMPTY
    return Finding(signature.id, _CONFIDENCE[Says.CODE], title, evidence, signature.actions)


def _waited_for_another(hit: Hits, causes: list[Hits]) -> bool:
    """Whether another process failed by itself; of lines that name no process none can tell."""
    named = hit.sources - {""}
    return (
        hit.signature.waits
        and bool(named)
        and any(
            other.sources - named - {""}
            for other in causes
            if not other.signature.waits and other.signature is not false_ready.SIGNATURE
        )
    )


def _judge_false_ready(story: Story) -> None:
    died = story.hits.get(false_ready.SIGNATURE.id)
    if died is None or story.answered >= SERVED:
        return
    # The API server outlived the engine: it was up, whether or not the log goes back to that.
    outlived = any(source.startswith("APIServer") for source in died.sources)
    faulted = any(hit.says is Says.CODE for hit in story.hits.values())
    if story.ready is not None or (outlived and faulted):
        died.says = Says.WHAT
        died.order = story.lines + 1  # after any line that says in words what failed
    if story.ready is not None:
        died.excerpts.insert(0, story.ready)
