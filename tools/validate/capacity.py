# SPDX-License-Identifier: Apache-2.0
"""The largest context and the most sequences that really serve, by starting servers.

A server that starts with a length has reserved memory for it, no more; so each trial also fills the
context, with as many requests at once as are claimed. What it cannot see: sizes between two trials,
of which there are few, for each is a whole start.
"""

import re
from collections.abc import Callable
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.arguments import replaced
from vllm_ascend_bringup.tools.validate.checks import models
from vllm_ascend_bringup.tools.validate.checks.base import Outcome, Rule, Session, failed, passed
from vllm_ascend_bringup.tools.validate.checks.counters import PREEMPTIONS, sums
from vllm_ascend_bringup.tools.validate.checks.long_context import filling
from vllm_ascend_bringup.tools.validate.client import GREEDY
from vllm_ascend_bringup.tools.validate.request import Setting
from vllm_ascend_bringup.tools.validate.results import Capacity, Start, Trial
from vllm_ascend_bringup.tools.validate.serving import Attempt, serve
from vllm_ascend_bringup.tools.validate.stages import said_of

MOST_LENGTH_TRIALS, MOST_SEQUENCE_TRIALS = 6, 4
# A context is found to a 32nd of what config.json allows, or to this many tokens.
_PARTS, _SMALLEST_STEP = 32, 16
_FIRST_SEQUENCES = 16
_GENERATED = 4
_KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
# vLLM's own estimate where a length does not fit (v1/core/kv_cache_utils.py).
_ESTIMATE = re.compile(r"estimated maximum model length is (\d+)")

Try = Callable[[int, int], Trial]


def search_length(longest: int, hint: Callable[[], int | None], attempt: Try) -> list[Trial]:
    """Trials with one sequence: the longest, then what vLLM estimates to fit, then halving.

    If its estimate serves, it is the answer: vLLM refuses every length above it.
    """
    trials = [attempt(longest, 1)]
    if trials[0].served:
        return trials
    low, high = 0, longest
    estimated = hint()
    if estimated and estimated < longest:
        trials.append(attempt(estimated, 1))
        if trials[-1].served:
            return trials
        high = estimated
    step = max(_SMALLEST_STEP, longest // _PARTS)
    while high - low > step and len(trials) < MOST_LENGTH_TRIALS:
        middle = (low + high) // 2
        trials.append(attempt(middle, 1))
        low, high = (middle, high) if trials[-1].served else (low, middle)
    return trials


def search_sequences(length: int, room: int | None, attempt: Try) -> list[Trial]:
    """Trials at one length: 16 sequences, then twice as many, or half.

    ``room``: tokens of the KV cache, past which no number is tried; None if not known.
    """
    most = max(1, room // length) if room else None
    count = min(_FIRST_SEQUENCES, most) if most else _FIRST_SEQUENCES
    trials: list[Trial] = []
    while len(trials) < MOST_SEQUENCE_TRIALS:
        trials.append(attempt(length, count))
        if trials[-1].served != trials[0].served:
            break
        count = count * 2 if trials[0].served else count // 2
        if count < 1 or (most and count > most):
            break
    return trials


def find_capacity(setting: Setting, stages: tuple[Start, ...]) -> Capacity:
    """``stages``: where the KV cache's size is read from; dummy weights serve if they passed."""
    theoretical = setting.report.answers.context.default
    weights_free = stages[0].state == "passed"
    logs: list[Path] = []

    def attempt(length: int, sequences: int) -> Trial:
        start = _try(setting, weights_free, length, sequences)
        logs.append(Path(start.log))
        setting.request.say(said_of(start))
        return Trial(length, sequences, start.state == "passed", start.label, start.seconds)

    room = _number(_KV_TOKENS, Path(stages[-1].log))
    trials = search_length(theoretical, lambda: _number(_ESTIMATE, logs[-1]), attempt)
    length = max((trial.max_model_len for trial in trials if trial.served), default=None)
    if length:
        trials += search_sequences(length, room, attempt)
    return Capacity(
        theoretical_len=theoretical,
        estimated_len=min(room, theoretical) if room else None,
        estimated_seqs=room // length if room and length else None,
        practical_len=length,
        practical_seqs=max((t.max_num_seqs for t in trials if t.served), default=None),
        trials=tuple(trials),
    )


def _try(setting: Setting, weights_free: bool, length: int, sequences: int) -> Start:
    sizes = (("--max-model-len", str(length)), ("--max-num-seqs", str(sequences)))
    arguments = setting.arguments
    for option in sizes:
        arguments = replaced(arguments, *option)
    if weights_free:
        arguments = replaced(arguments, "--load-format", "dummy")
    crowd = Rule("crowd", Text("contexts filled at once", "同时填满上下文"), _crowd(sequences))
    return serve(
        Attempt(
            f"capacity-{length}x{sequences}", arguments, {}, "dummy" if weights_free else "real",
            tuple(" ".join(option) for option in sizes), (models.RULE, crowd),
        ),
        setting,
    )  # fmt: skip


def _crowd(sequences: int) -> Callable[[Session], Outcome]:
    def run(session: Session) -> Outcome:
        ids = filling(session.client, session.max_model_len - _GENERATED)
        # No two share a beginning, which the prefix cache would keep once.
        prompts = [(*ids[i % len(ids) :], *ids[: i % len(ids)]) for i in range(sequences)]
        answers = session.client.complete_all(prompts, _GENERATED, ignore_eos=True, **GREEDY)
        complete = sum(answer.tokens == _GENERATED for answer in answers)
        preempted = sums(session.client.get("/metrics")).get(PREEMPTIONS, 0.0)
        said = Text(
            "{complete} of {sequences} requests that fill the context complete, {preempted:.0f} "
            "pushed out",
            "{sequences} 个填满上下文的请求中 {complete} 个完成，{preempted:.0f} 个被挤出",
        ).format(complete=complete, sequences=sequences, preempted=preempted)
        return passed(said) if complete == sequences and not preempted else failed("capacity", said)

    return run


def _number(pattern: re.Pattern[str], log: Path) -> int | None:
    found = pattern.search(log.read_text(errors="replace")) if log.is_file() else None
    return int(found[1].replace(",", "")) if found else None
