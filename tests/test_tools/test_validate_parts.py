# SPDX-License-Identifier: Apache-2.0
"""What `bringup validate` judges by, without a server: logs, answers, searches, arguments."""

import io
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import validations
from PIL import Image

from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.validate import ValidateRequest, ladder
from vllm_ascend_bringup.tools.validate.arguments import decided, has, replaced, value_of, without
from vllm_ascend_bringup.tools.validate.capacity import search_length, search_sequences
from vllm_ascend_bringup.tools.validate.checks import content, counters, picture
from vllm_ascend_bringup.tools.validate.checks.agreement import TOLERANCE, disagreement
from vllm_ascend_bringup.tools.validate.checks.catalog import CHECKS
from vllm_ascend_bringup.tools.validate.client import Generation
from vllm_ascend_bringup.tools.validate.ending import ending, first_error
from vllm_ascend_bringup.tools.validate.features import SWITCHES, _seen
from vllm_ascend_bringup.tools.validate.request import Setting, setting_of
from vllm_ascend_bringup.tools.validate.results import Trial
from vllm_ascend_bringup.tools.validate.startup import StartTimeout, Startup
from vllm_ascend_bringup.tools.vllm_server import VllmServer

CHECK_FILES = sorted(
    file.stem
    for file in Path(picture.__file__).parent.glob("*.py")
    if file.stem not in ("__init__", "base", "catalog", "agreement")
)


def test_every_check_file_is_listed_under_its_own_name() -> None:
    assert sorted(id_.replace("-", "_") for id_ in CHECKS) == CHECK_FILES
    assert all(rule.id == id_ for id_, rule in CHECKS.items())
    assert list(CHECKS)[:2] == ["models", "text"]  # the others need what these learn
    assert list(CHECKS)[-1] == "counters"  # it counts what the others sent


# Arguments.

GIVEN = ("--max_model_len", "512", "--port=81", "--enforce-eager", "--served-model-name", "a", "b")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("--max-model-len", "512"), ("--port", "81"), ("--enforce-eager", ""),
        ("--served-model-name", "a"), ("--host", None),
    ],
)  # fmt: skip
def test_a_value_is_found_in_every_spelling(name: str, value: str | None) -> None:
    assert value_of(GIVEN, name) == value
    assert has(GIVEN, name) is (value is not None)


def test_an_option_is_removed_with_all_its_values_and_its_negation() -> None:
    assert without(GIVEN, "--served-model-name", "--port") == (
        "--max_model_len", "512", "--enforce-eager",
    )  # fmt: skip
    assert without(("--no-enforce-eager", "--port", "1"), "--enforce-eager") == ("--port", "1")
    assert decided(("--no-enforce-eager",), "--enforce-eager")
    assert not has(("--no-enforce-eager",), "--enforce-eager")


def test_the_last_of_repeated_options_counts_and_all_are_replaced() -> None:
    twice = ("--port", "1", "--seed", "2", "--port=3")
    assert value_of(twice, "--port") == "3"
    assert replaced(twice, "--port", "4") == ("--seed", "2", "--port", "4")


# How a server ended.

WELL = "INFO:     Application startup complete."
REMARK = "(APIServer pid=1) WARNING 01-01 00:00:00 [a.py:1] may cause errors like `OSError: no`"
RAISED = "(Worker pid=2) ERROR 01-01 00:00:00 [a.py:1] RuntimeError: no such shape"
GONE = "(APIServer pid=1) ERROR 01-01 00:00:00 [a.py:2] x.EngineDeadError: see above"


@pytest.mark.parametrize(
    ("lines", "code", "expected"),
    [
        ([WELL], -9, "killed"),
        ([WELL], -15, "killed"),
        ([WELL], -11, "crashed"),
        ([WELL, "Worker proc A died unexpectedly (exit code: -9), shutting down"], 0, "killed"),
        ([WELL, "Worker proc A died unexpectedly (exit code: -6), shutting down"], 0, "crashed"),
        ([WELL, "Worker proc A died unexpectedly (exit code: 1), shutting down"], 0, "crashed"),
        ([REMARK, "engine core exited unexpectedly; starting cleanup", GONE], 0, "killed"),
        ([RAISED, GONE], 0, "crashed"),
        ([GONE, RAISED], 0, "crashed"),
        ([WELL, REMARK], 1, "unknown"),
        ([], None, "unknown"),
    ],
)
def test_an_end_from_outside_is_told_from_a_crash(
    lines: list[str], code: int | None, expected: str
) -> None:
    assert ending(lines, code) == expected


@pytest.mark.parametrize(
    ("lines", "first"),
    [([REMARK, GONE, RAISED, "ValueError: later"], RAISED), ([REMARK, GONE], None), ([], None)],
)
def test_the_first_error_is_the_servers_own(lines: list[str], first: str | None) -> None:
    assert first_error(lines) == first


# Starting.


@pytest.fixture
def starting(tmp_path: Path) -> VllmServer:
    """A server that is not started; the test writes its log."""
    server = VllmServer("model", log=tmp_path / "server.log")
    server.log.write_text("")
    return server


def say(server: VllmServer, text: str) -> None:
    with server.log.open("a") as log:
        log.write(text)


def test_moments_of_a_start_are_noted_once_and_in_order(starting: VllmServer) -> None:
    watch = Startup(phase_seconds=60, total_seconds=60)
    say(starting, "(W pid=1) INFO 01-01 00:00:00 [a.py:1] Starting to load model x...\n")
    watch(starting)
    say(starting, "Loading safetensors checkpoint shards:  50% Completed | 1/2\rLoading weights to")
    watch(starting)
    assert [event.name for event in watch.timeline(None)] == ["process", "load"]
    say(starting, "ok 2.0 seconds\nGPU KV cache size: 1,024 tok")  # "took" was cut in two
    say(starting, "ens\nCapturing CUDA graphs (decode): 10%| 1/10 [00:01<00:09]\r")
    watch(starting)
    names = [event.name for event in watch.timeline(1e9)]
    assert names == ["process", "load", "loaded", "profiled", "capture", "ready"]
    assert watch.timeline(1e9)[-1].seconds == 1e9


PHASE = 0.3


def test_a_phase_that_goes_on_is_waited_for(starting: VllmServer) -> None:
    watch = Startup(PHASE, total_seconds=60)
    for step in range(8):  # twice the phase's time
        say(starting, f"Capturing CUDA graphs: {step}/8 [00:0{step}<00:08]\r")
        time.sleep(PHASE / 4)
        watch(starting)


@pytest.mark.parametrize(
    "repeated",
    [
        "",
        "(A pid=1) INFO 01-01 00:00:0{step} [a.py:1] Waiting for 1 engine to start.\n",
        "Capturing CUDA graphs: 1/8 [00:0{step}<00:08]\r",  # time passes, nothing is captured
    ],
    ids=["silence", "waiting", "standing-still"],
)
def test_a_phase_that_stands_still_is_given_up(repeated: str, starting: VllmServer) -> None:
    watch = Startup(PHASE, total_seconds=60)
    with pytest.raises(StartTimeout, match="last seen") as error:  # noqa: PT012 (time passes)
        for step in range(40):
            say(starting, repeated.format(step=step % 10))
            time.sleep(PHASE / 8)
            watch(starting)
    assert "最后的进展" in error.value.said("zh")


def test_a_start_that_goes_on_for_ever_is_given_up_too(starting: VllmServer) -> None:
    watch = Startup(phase_seconds=60, total_seconds=PHASE)
    say(starting, "Starting to load model\n")
    time.sleep(PHASE * 1.1)
    with pytest.raises(StartTimeout):
        watch(starting)


# Answers.


def answer(
    ids: Sequence[int], logprobs: Sequence[float] | None = None,
    likeliest: Sequence[Mapping[str, float]] = (), text: str = "Paris.",
) -> Generation:  # fmt: skip
    return Generation(
        text=text, finish="stop", prompt_ids=(), ids=tuple(ids),
        logprobs=tuple(logprobs or [-1.0] * len(ids)),
        likeliest=tuple(likeliest or [{}] * len(ids)), prompt_logprobs=(),
        prompt_tokens=1, tokens=len(ids),
    )  # fmt: skip


ALLOWED = TOLERANCE["bfloat16"]


def near(gap: float) -> Generation:
    """Tokens 1 and 2, so far apart, at the second place; 1 was chosen."""
    return answer([7, 1], [-1.0, -1.0], [{}, {"token_id:1": -1.0, "token_id:2": -1.0 - gap}])


@pytest.mark.parametrize(
    ("first", "second", "agree"),
    [
        (answer([1, 2]), answer([1, 2]), True),
        (answer([1]), answer([1], [-1.0 - ALLOWED]), True),
        (answer([1]), answer([1], [-1.0 - 1.01 * ALLOWED]), False),
        (answer([1]), answer([1], [math.nan]), False),
        (answer([1, 2]), answer([1]), False),
        (answer([1]), answer([2]), False),  # how near they were is not known
        (near(ALLOWED), replace(near(ALLOWED), ids=(7, 2)), True),
        (near(1.01 * ALLOWED), replace(near(1.01 * ALLOWED), ids=(7, 2)), False),
        (answer([]), answer([]), True),
    ],
)
def test_answers_agree_up_to_rounding(first: Generation, second: Generation, agree: bool) -> None:
    assert (disagreement(first, second, "bfloat16") is None) is agree
    assert (disagreement(second, first, "bfloat16") is None) is agree


def test_float32_rounds_less() -> None:
    first, second = answer([1], [-1.0]), answer([1], [-1.01])
    assert disagreement(first, second, "bfloat16") is None
    assert disagreement(first, second, "float32") is not None


@pytest.mark.parametrize(
    ("ids", "share"),
    [
        ([0] * 64, 1.0),
        ([1, 2] * 8, 1.0),
        ([1, 2, 3, 4] * 8, 1.0),
        ([1, 2, 3, 4, 5] * 8, 0.0),  # longer loops are what greedy decoding may fall into
        (list(range(64)), 0.0),
        ([0] * 15, 0.0),  # too few to say
        ([0] * 16, 1.0),
        ([0] * 9 + list(range(1, 9)), 0.5),
    ],
)
def test_only_short_cycles_are_a_collapse(ids: list[int], share: float) -> None:
    assert content.repeated_share(ids) == share


def session(*answers: Generation) -> Any:
    """What the check of content looks at."""
    from vllm_ascend_bringup.tools.validate.checks.base import Session

    report = report_checkpoint(CHECKPOINT)
    client: Any = None
    made = Session(client, report.model, CHECKPOINT, (), "demo", "bfloat16")
    made.answers.extend(answers)
    return made


@pytest.mark.parametrize(
    ("text", "ids", "state"),
    [
        ("Paris.", range(20), "passed"),
        ("", range(20), "failed"),
        (" \n", range(20), "failed"),
        ("Paris.<|im_end|>", range(20), "failed"),
        ("<|im_start|>assistant", range(20), "failed"),
        ("assistant\nParis.", range(20), "failed"),
        ("An assistant: a person who helps.", range(20), "passed"),
        ("!!!!!!!!!!!!!!!!!!!!", [5] * 20, "failed"),
        ("one half repeats", [0] * 9 + list(range(1, 9)), "passed"),
        ("one more does", [0] * 10 + list(range(1, 9)), "failed"),
    ],
)
def test_text_is_told_from_what_is_none(text: str, ids: Sequence[int], state: str) -> None:
    outcome = content.run(session(answer(list(ids), text=text)))
    assert outcome.state == state
    assert outcome.label == ("output-quality" if state == "failed" else None)
    assert outcome.evidence


def test_markers_are_the_tokenizers_own() -> None:
    assert {"<|im_start|>", "<|im_end|>"} <= content.markers(CHECKPOINT)


# Pictures.


@pytest.mark.parametrize("side", [1, 2, 28, 224])
def test_the_picture_is_one(side: int) -> None:
    decoded = Image.open(io.BytesIO(picture.png((220, 30, 31), side))).convert("RGB")
    assert decoded.size == (side, side)
    lower = (73, 10, 10)
    assert decoded.getpixel((0, 0)) == ((220, 30, 31) if side > 1 else lower)
    assert decoded.getpixel((side - 1, side - 1)) == lower


@pytest.mark.parametrize(
    ("parts", "arguments", "taken"),
    [
        (("vision_config",), (), True),
        (("thinker_config.vision_config",), (), True),
        ((), (), False),
        (("audio_config",), (), False),
        (("vision_config",), ("--limit-mm-per-prompt", '{"image": 0}'), False),
        (("vision_config",), ("--limit-mm-per-prompt", '{"image": 2}'), True),
        (("vision_config",), ("--limit-mm-per-prompt", '{"video": 0}'), True),
        (("vision_config",), ("--limit-mm-per-prompt", "image=0"), False),
        (("vision_config",), ("--limit-mm-per-prompt.image", "0"), False),
        (("vision_config",), ("--language-model-only",), False),
    ],
)
def test_pictures_are_sent_to_who_takes_them(
    parts: tuple[str, ...], arguments: tuple[str, ...], taken: bool
) -> None:
    assert (picture.takes_pictures(parts, arguments) is None) is taken


# Metrics.


def test_metrics_are_summed_over_labels_and_nan_is_kept() -> None:
    text = (
        '# HELP vllm:a A.\nvllm:a_total{engine="0"} 1.0\nvllm:a_total{engine="1"} 2e1\n'
        'vllm:b{le="+Inf"} 3.0\nvllm:c NaN\npython_info 9.0\n'
    )
    found = counters.sums(text)
    assert (found["vllm:a_total"], found["vllm:b"]) == (21.0, 3.0)
    assert math.isnan(found["vllm:c"])
    assert "python_info" not in found


# Capacity.


def machine(tokens: int, most: int = 10**9) -> Any:
    """Serves what fits into so many tokens of KV cache, and so many sequences."""
    return lambda length, seqs: Trial(
        length, seqs, length * seqs <= tokens and seqs <= most, None, 1.0
    )


def sizes(trials: list[Trial]) -> list[tuple[int, int, bool]]:
    return [(trial.max_model_len, trial.max_num_seqs, trial.served) for trial in trials]


def test_a_length_that_fits_takes_one_trial() -> None:
    def never() -> int | None:
        raise AssertionError("there is nothing to estimate")

    assert sizes(search_length(512, never, machine(512))) == [(512, 1, True)]


def test_what_vllm_estimates_is_the_answer_if_it_serves() -> None:
    found = sizes(search_length(32768, lambda: 20000, machine(20100)))
    assert found == [(32768, 1, False), (20000, 1, True)]


def test_an_estimate_that_does_not_serve_is_an_upper_bound() -> None:
    found = sizes(search_length(32768, lambda: 20000, machine(9000)))
    assert found[:4] == [
        (32768, 1, False), (20000, 1, False), (10000, 1, False), (5000, 1, True)
    ]  # fmt: skip
    assert len(found) == 6


@pytest.mark.parametrize("fits", [0, 1, 100, 16000, 32767])
def test_halving_ends_within_a_thirty_second(fits: int) -> None:
    trials = search_length(32768, lambda: None, machine(fits))
    served = max((t.max_model_len for t in trials if t.served), default=0)
    assert served <= fits
    assert fits - served <= 1024
    assert len(trials) <= 6


@pytest.mark.parametrize(
    ("room", "most", "expected"),
    [
        (None, 40, [(16, True), (32, True), (64, False)]),
        (None, 5, [(16, False), (8, False), (4, True)]),
        (None, 0, [(16, False), (8, False), (4, False), (2, False)]),
        (None, 10**9, [(16, True), (32, True), (64, True), (128, True)]),
        (40 * 512, 10**9, [(16, True), (32, True)]),  # 64 do not fit at once
        (3 * 512, 10**9, [(3, True)]),
        (100, 10**9, [(1, True)]),
    ],
)
def test_sequences_are_doubled_or_halved(
    room: int | None, most: int, expected: list[tuple[int, bool]]
) -> None:
    found = search_sequences(512, room, machine(10**12, most))
    assert [(t.max_num_seqs, t.served) for t in found] == expected


# Fallbacks.


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    """Of the demo, here."""
    request = ValidateRequest(CHECKPOINT, (), tmp_path)
    return setting_of(request, report_checkpoint(CHECKPOINT))


def test_here_the_machine_decides_what_the_user_did_not(tmp_path: Path) -> None:
    asked = ("--max-model-len", "64", "--no-enforce-eager")
    made = setting_of(ValidateRequest(CHECKPOINT, asked, tmp_path), report_checkpoint(CHECKPOINT))
    assert made.added == ("--gpu-memory-utilization", "0.3")
    assert made.arguments == (*asked, *made.added)


@pytest.mark.parametrize(
    ("label", "hopeful"),
    [
        ("port-in-use", []),
        ("scale-pairing", []),
        ("weight-key-mismatch", []),
        ("max-model-len", ["smaller-shapes"]),
        ("output-quality", ["reproduce", "enforce-eager", "no-dynamo"]),
        ("stream-exhaustion", ["enforce-eager", "smaller-shapes"]),
        ("false-ready", [rung.id for rung in ladder.RUNGS]),
        ("of a kind not listed", [rung.id for rung in ladder.RUNGS]),
    ],
)
def test_only_rungs_that_may_help_are_tried(label: str, hopeful: list[str]) -> None:
    tried, why_not = ladder.hopes_of(label)
    assert [rung.id for rung in tried] == hopeful
    assert why_not.en
    assert why_not.zh


def test_a_rung_changes_one_thing(setting: Setting) -> None:
    changed = {rung.id: rung.options(setting) for rung in ladder.RUNGS}
    assert changed["reproduce"] == changed["no-dynamo"] == ()
    assert changed["smaller-shapes"] == (
        ("--max-model-len", "256"), ("--max-num-seqs", "4"), ("--max-num-batched-tokens", "256"),
    )  # fmt: skip
    # The CPU's servers are eager already, and the demo reads text only.
    assert "eager" in str(changed["enforce-eager"])
    assert "text" in str(changed["text-only"])


# What vLLM 0.32 logs of each rank, without expert parallelism too, and what it logs with it.
ANY_RANK = "(Worker pid=1) INFO [parallel_state.py:2350] rank 0 in world size 1 is assigned as DP rank 0, PP rank 0, PCP rank 0, TP rank 0, ETP rank 0, EP rank 0, EPLB rank N/A\n"  # fmt: skip  # noqa: E501
SHARED = "(Worker_TP0_EP0 pid=1) INFO [expert_map_manager.py:250] [EP Rank 0/2] Expert parallelism is enabled. Local/global number of experts: 2/4.\n"  # fmt: skip  # noqa: E501


@pytest.mark.parametrize(
    ("log", "state"), [("", "not-tried"), (ANY_RANK, "not-tried"), (ANY_RANK + SHARED, "verified")]
)
def test_experts_are_parallel_only_where_the_log_says_so(
    log: str, state: str, tmp_path: Path
) -> None:
    (tmp_path / "log").write_text(log)
    (switch,) = [each for each in SWITCHES if each.id == "expert-parallelism"]
    served = validations.start("real", (1.0,), state="passed", log=str(tmp_path / "log"))
    assert _seen(switch, served)[0] == state
    failed = replace(served, state="failed", label="false-ready")
    assert _seen(switch, failed)[0] == "unsupported"
