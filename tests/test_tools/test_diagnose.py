# SPDX-License-Identifier: Apache-2.0
"""diagnose: what is the cause and what it triggered, in logs written for it; the command."""

import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose import diagnose, diagnose_logs, scan
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature
from vllm_ascend_bringup.tools.diagnose.catalog import SIGNATURES
from vllm_ascend_bringup.tools.diagnose.log_line import Level, LogLine, parse, without_ansi
from vllm_ascend_bringup.tools.diagnose.ranking import ranked
from vllm_ascend_bringup.tools.diagnose.reading import diagnose_files

ROOT = Path(__file__).resolve().parents[2]
CORPUS = ROOT.parent / "shared" / "reference" / "failure-logs"
TARGET = 0.95

_WORKER = "(Worker_TP{rank} pid=2{rank}) ERROR 03-01 10:00:0{rank} [multiproc_executor.py:700] "
_FULL = (
    "torch.OutOfMemoryError: NPU out of memory. Tried to allocate 100.00 MiB (NPU 3; 30.00 GiB "
    "total capacity; 29.10 GiB already allocated; 29.10 GiB current active; 60.00 MiB free; "
    "29.20 GiB reserved in total by PyTorch)"
)
_WAITED = "EI0006: [PID: 22] Getting socket times out. Reason: Remote Rank did not send the data"
_FAULT = "RuntimeError: ACL stream synchronize failed, error code:507035"
_WRAPPERS = [
    "(EngineCore pid=20) ERROR 03-01 10:00:09 [core.py:700] EngineCore failed to start.",
    "(EngineCore pid=20) ERROR 03-01 10:00:09 [core.py:154] Worker proc VllmWorker-3 died "
    "unexpectedly, shutting down executor.",
    "(APIServer pid=11) RuntimeError: Engine core initialization failed. See root cause above.",
    "[ERROR] 2026-03-01-10:00:09 (PID:11, Device:-1, RankID:-1) ERR99999 UNKNOWN exception",
]


def worker(rank: int, *messages: str) -> list[str]:
    return [_WORKER.format(rank=rank) + message for message in messages]


def interleaved(*logs: list[str]) -> list[str]:
    """One line of each in turn, as several processes write into one file."""
    longest = max(map(len, logs))
    return [log[i] for i in range(longest) for log in logs if i < len(log)]


def ids(lines: list[str]) -> list[str]:
    return [finding.id for finding in diagnose(lines)]


def test_a_rank_that_only_waited_comes_after_the_one_that_failed() -> None:
    for fault, cause in ((_FULL, "oom-kv-or-activation"), (_FAULT, "device-exception")):
        # The fault's code alone says less than the words of the timeout, and stands behind it.
        lines = [*worker(1, _WAITED), *worker(3, fault), *worker(2, _WAITED), *_WRAPPERS]
        assert ids(lines) == [cause, "hccl-timeout"]
    assert ids([*worker(1, _WAITED), *worker(2, _WAITED), *_WRAPPERS]) == ["hccl-timeout"]
    # On the same rank the timeout is what the fault's code stands for.
    assert ids(worker(1, _FAULT, _WAITED)) == ["hccl-timeout", "device-exception"]


def test_a_process_that_is_not_named_is_not_another_one() -> None:
    fault = "device error in task, hccl fftsplus task timeout occurred, timeout=1836s"
    engine = (
        "(EngineCore pid=9) ERROR 03-01 10:00:09 [core.py:1] EngineCore encountered a fatal error."
    )
    assert ids([fault, engine])[0] == "hccl-timeout"
    assert ids([f"[rank0]: {_FAULT}", _WAITED])[0] == "hccl-timeout"
    assert ids([f"[rank0]: {_FAULT}", f"[rank1]: {_WAITED}"])[0] == "device-exception"


def test_context_is_that_of_the_same_rank() -> None:
    loading = worker(3, "Traceback (most recent call last):", '  File "a.py", in load_model',
                     "    w = torch.empty(n)", _FULL)  # fmt: skip
    running = worker(1, "Traceback (most recent call last):", '  File "b.py", in execute_model',
                     "    y = self.forward(x)", "    z = x + y")  # fmt: skip
    assert ids(interleaved(loading, running))[0] == "oom-weights"
    loading[1], running[1] = running[1].replace("TP1", "TP3"), loading[1].replace("TP3", "TP1")
    assert ids(interleaved(loading, running))[0] == "oom-kv-or-activation"


def test_a_process_with_one_line_is_seen_in_the_context_of_the_others() -> None:
    loading = worker(
        0, "Traceback (most recent call last):", '  File "a.py", line 1, in load_model'
    )
    driver = f"(EngineCore pid=9) ERROR 03-01 10:00:09 [core.py:7] {_FULL}"
    assert ids([*loading, driver])[0] == "oom-weights"
    assert ids([driver])[0] == "oom-kv-or-activation"


def test_the_context_can_rule_a_cause_out() -> None:
    line = "upgrade the driver to raise the limit"
    assert ids([line])[0] == "driver-version"
    assert "driver-version" not in ids(["no sq cq resources are left", line])


def test_information_is_no_evidence_where_a_warning_is() -> None:
    line = "{} 03-01 10:00:08 [npu.py:7] NPU warning, error code is 507018"
    assert ids([line.format("WARNING")])[0] == "device-exception"
    assert ids([line.format("INFO")]) == ["insufficient-log"]


def test_context_ends_at_the_traceback() -> None:
    before = worker(3, '  File "a.py", in load_model', "ValueError: retried")
    after = worker(
        3, "Traceback (most recent call last):", '  File "b.py", in execute_model', _FULL
    )
    assert ids([*before, *after])[0] == "oom-kv-or-activation"


_LINKS = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


@pytest.mark.parametrize("link", _LINKS)
def test_the_first_of_chained_exceptions_is_the_cause(link: str) -> None:
    lines = [
        "ImportError: /opt/torch_npu/lib/libtorch_npu.so: undefined symbol: _ZN3atb",
        "",
        link,
        "",
        "ImportError: libhccl.so: cannot open shared object file: No such file or directory",
    ]
    assert ids(lines) == ["version-mismatch", "env-cann-missing"]
    first, second = diagnose(lines)
    assert first.confidence == 0.95
    assert second.confidence == pytest.approx(0.95 / 2, abs=0.01)


def test_a_reason_outranks_the_fault_and_the_code_before_it() -> None:
    lines = [
        _FAULT.replace("507035", "507013"),
        "RuntimeError: call aclnnMoeDistributeDispatchV2 failed, error code is 561002",
        "RuntimeError: capture_end: AclmdlRICaptureEnd, error code is 507903",
        "EZ9999: [PID: 7] the mask must be equal to 128",
        "EL0004: [PID: 7] Failed to allocate memory.",
    ]
    assert ids(lines) == [
        "oom-kv-or-activation", "moe-dispatch", "op-shape-contract", "device-exception",
        "graph-capture-other",
    ]  # fmt: skip


def test_an_operator_that_waited_for_another_node_is_a_timeout() -> None:
    lines = [
        "RuntimeError: NPU function error: call aclnnMoeDistributeDispatchV4 failed, error code is "
        "561000",
        "EZ9999: [PID: 7] Nnopbase fails to invoke the HcclAllocComResourceByTiling function of "
        "the hccl module. ret = 9, comm = 0x1.",
    ]
    assert ids(lines)[:2] == ["hccl-timeout", "moe-dispatch"]
    assert ids([lines[0], lines[1].replace("= 9", "= 4")])[0] == "moe-dispatch"


def test_the_end_of_a_capture_is_what_an_earlier_error_triggered() -> None:
    lines = worker(0, "RuntimeError: AclmdlRICaptureEnd, error code is 507903", _FULL)
    assert ids(lines) == ["oom-kv-or-activation", "graph-capture-other"]


def test_on_one_line_the_pattern_that_asks_for_its_surroundings_wins() -> None:
    def signature(id_: str, near: str) -> Signature:
        text = Text("title", "标题")
        return Signature(id_, text, (text,), (Pattern("kaput", near=near),))

    signatures = [signature("loose", ""), signature("strict", "in load_model")]
    lines = ["  in load_model", "ValueError: kaput"]
    for order in (signatures, signatures[::-1]):
        story = scan.read_logs([(None, lines)], order)
        assert [finding.id for finding in ranked(story)] == ["strict", "loose"]


def test_wrappers_alone_are_insufficient() -> None:
    (finding,) = diagnose(_WRAPPERS)
    assert finding.id == "insufficient-log"
    assert "before the cause" in finding.title.en
    assert [excerpt.line for excerpt in finding.evidence] == [1, 2, 3]
    assert any("ASCEND_LAUNCH_BLOCKING" in action.en for action in finding.actions)
    assert ids([*_WRAPPERS, *worker(0, _FAULT)]) == ["device-exception"]


def test_an_unknown_exception_is_insufficient_and_quoted() -> None:
    (finding,) = diagnose(["starting", "TeapotError: the kettle is empty"])
    assert (finding.id, finding.evidence[0].line) == ("insufficient-log", 2)


def test_a_log_without_failure_says_so() -> None:
    healthy = [
        "(APIServer pid=11) INFO:     Application startup complete.",
        '(APIServer pid=11) INFO:     127.0.0.1:1 - "GET /v1/models HTTP/1.1" 200 OK',
    ]
    (finding,) = diagnose(healthy)
    assert finding.id == "insufficient-log"
    assert finding.title.en == "No failure is seen in this log"
    assert [excerpt.line for excerpt in finding.evidence] == [1]
    (empty,) = diagnose([])
    assert (empty.id, empty.title.en, empty.evidence) == (
        "insufficient-log", "The log is empty", (),
    )  # fmt: skip


def served(requests: int, *failure: str) -> list[str]:
    answer = '(APIServer pid=11) INFO:     127.0.0.1:{} - "POST /v1/completions HTTP/1.1" 200 OK'
    return [
        "(APIServer pid=11) INFO:     Application startup complete.",
        *[answer.format(port) for port in range(requests)],
        *failure,
        "(APIServer pid=11) ERROR 03-01 10:00:09 [async_llm.py:700] "
        "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue.",
    ]


def test_death_at_the_first_request_is_false_ready() -> None:
    unknown = "(EngineCore pid=20) ERROR 03-01 10:00:08 [core.py:720] RuntimeError: the kettle"
    fault = "(EngineCore pid=20) ERROR 03-01 10:00:08 [core.py:720] " + _FAULT
    assert ids(served(0, unknown)) == ["false-ready"]
    assert ids(served(0, fault)) == ["false-ready", "device-exception"]
    # A stream's status is sent before its answer: one may be the request that died.
    assert ids(served(1, fault)) == ["false-ready", "device-exception"]
    # A server that answered was ready; one whose reason is known is better described by it.
    assert ids(served(2, fault))[0] == "device-exception"
    assert ids(served(0, "(EngineCore pid=20) " + _FULL))[0] == "oom-kv-or-activation"
    # The end of a log: an engine that dies with a fault had been started.
    assert ids(served(0, fault)[1:]) == ["false-ready", "device-exception"]
    assert ids(served(0, unknown)[1:])[0] == "insufficient-log"


def test_a_server_that_was_stopped_did_not_fail() -> None:
    answer = 'INFO:     127.0.0.1:1 - "POST /v1/completions HTTP/1.1" 200 OK'
    death = served(0)[-1]
    for stop in (
        "(APIServer pid=11) INFO 03-01 10:00:08 [launcher.py:254] [shutdown] API server: "
        "shutdown triggered",
        "INFO:     Shutting down",
    ):
        (finding,) = diagnose([served(0)[0], stop, death])
        assert finding.title.en == "No failure is seen in this log"
        # Whoever dies first is not excused by the shutdown that follows.
        assert ids([served(0)[0], death, stop]) == ["false-ready"]
    # A client that keeps its connection leaves the same line for every request.
    assert ids([*served(0)[:1], answer, answer, death])[0] == "insufficient-log"


def test_an_exception_that_was_only_warned_of_is_no_failure() -> None:
    (finding,) = diagnose(["(A pid=1) WARNING 03-01 10:00:00 [base.py:380] ValueError: no kettle"])
    assert finding.title.en == "No failure is seen in this log"


@pytest.mark.parametrize(
    "coloured",
    [
        "\x1b[1;36m(EngineCore pid=20)\x1b[0;0m \x1b[31mERROR\x1b[0m 03-01 10:00:08 [core.py:7] {}",
        "[36m(EngineCore pid=20)[0m ERROR 03-01 10:00:08 [core.py:7] {}",
        "^[[36m(EngineCore pid=20)^[[0m {}",
        "\x1b[31m{}\x1b[0m",
    ],
)
def test_colours_are_ignored_and_not_quoted(coloured: str) -> None:
    message = "RuntimeError: \x1b[1mfp8\x1b[0m quantization is currently not supported in npu."
    (finding,) = diagnose([coloured.format(message)])
    assert finding.id == "fp8-unsupported"
    assert "\x1b" not in finding.evidence[0].text
    assert "36m" not in finding.evidence[0].text


def test_colours_that_lost_their_escape_character_are_ignored() -> None:
    bare = "[36m(EngineCore pid=20)[0m ERROR 03-01 10:00:08 [core.py:7] [31mValueError[0m: {}"
    (finding,) = diagnose(
        [bare.format("fp8 quantization is currently [1mnot[0m supported in npu.")]
    )
    assert finding.id == "fp8-unsupported"
    assert "[1m" not in finding.evidence[0].text


@pytest.mark.parametrize(
    ("line", "id_"),
    [
        ("[2026-03-01 10:00:00] [error] [7] 端口 1025 已被占用，服务启动失败", "port-in-use"),
        ("[2026-03-01 10:00:00] [error] [7] NPU 显存不足，调小 npuMemSize", "oom-kv-or-activation"),
        ("错误：驱动版本过低，当前 23.0.1", "driver-version"),
        ("[ERROR] config.json 文件权限不符合要求", "model-perms"),
        ("ValueError：linear type not matched，please check 'config.json' 'quantize' parameter",
         "quant-config-missing"),
        ("Failed to get vocab size from tokenizer wrapper with exception...", "tokenizer"),
    ],
)  # fmt: skip
def test_messages_of_mindie_and_in_chinese(line: str, id_: str) -> None:
    assert ids([line])[0] == id_
    if "[error]" in line:
        assert ids([line.replace("[error]", "[info]")]) == ["insufficient-log"]


@pytest.mark.parametrize(
    ("line", "source", "level", "message"),
    [
        ("(Worker_TP0 pid=21) ERROR 03-01 10:00:00 [core.py:7] boom", "Worker_TP0", Level.ERROR,
         "boom"),
        ("(EngineCore pid=20) (Worker_TP1 pid=22) INFO 03-01 10:00:00 [v1/core.py:7] boom",
         "Worker_TP1", Level.NOTE, "boom"),
        ("vllm-1  | (VllmWorker rank=1 pid=30) WARNING 03-01 10:00:00 [a.py:1] boom",
         "VllmWorker rank=1", Level.WARNING, "boom"),
        ("(VllmWorkerProcess pid=30) ERROR 03-01 10:00:00 worker.py:240] boom",
         "VllmWorkerProcess pid=30", Level.ERROR, "boom"),
        ("[rank3]: boom", "rank3", Level.ERROR, "boom"),
        ("2026-03-01 10:00:00,123 - kettle.cup - INFO - a.py:7 - boom", "", Level.NOTE, "boom"),
        ("2026-03-01T10:00:00+08:00 - kettle.cup - WARNING - boom", "", Level.WARNING, "boom"),
        ("2026-03-01 10:00:00,123 - kettle - ERROR - boom", "", Level.ERROR, "boom"),
        ("[rank3]:[W310 06:10:45.0 ProcessGroup.cpp:1] Warning: boom", "rank3", Level.WARNING,
         "[W310 06:10:45.0 ProcessGroup.cpp:1] Warning: boom"),
        ("E   boom", "", Level.ERROR, "boom"),
        ("[2026-03-01 10:00:00.1] [info] [7] boom", "", Level.NOTE,
         "[2026-03-01 10:00:00.1] [info] [7] boom"),
        ("/opt/lib/a.py:1: UserWarning: boom", "", Level.WARNING,
         "/opt/lib/a.py:1: UserWarning: boom"),
    ],
)  # fmt: skip
def test_prefixes(line: str, source: str, level: Level, message: str) -> None:
    parsed = parse(without_ansi(line))
    assert (parsed.source, parsed.level, parsed.message) == (source, level, message)


def test_a_raised_exception_inside_a_warning_is_evidence() -> None:
    warned = "(APIServer pid=1) WARNING 03-01 10:00:00 [config.py:1] {}"
    message = "model type `teapot`, but Transformers does not recognize this architecture."
    assert ids([warned.format(f"ValueError: {message}")])[0] == "arch-unrecognized"
    assert ids([warned.format(message)])[0] == "insufficient-log"


def test_long_lines_are_quoted_around_what_matched() -> None:
    line = "x" * 5000 + " ImportError: libhccl.so: cannot open shared object file " + "y" * 5000
    (finding,) = diagnose([line])
    assert "libhccl.so" in finding.evidence[0].text
    assert len(finding.evidence[0].text) < 500


def endless(megabytes: int) -> Iterator[str]:
    """Lines that differ in numbers, in ids and in words; with a fault at the end."""
    line = "(Worker_TP{0} pid=2{0}) ERROR 03-01 10:00:00 [a.py:1] run {1:032x} took {2} ms {3}\n"
    for i in range(megabytes * 10_000):
        yield line.format(i % 8, i * 2654435761 % 2**128, i % 977, "kettle" * (i % 5))
    yield "RuntimeError: fp8 quantization is currently not supported in npu.\n"


def test_memory_does_not_grow_with_the_log() -> None:
    peaks = []
    for megabytes in (2, 12):
        tracemalloc.start()
        (finding,) = diagnose(endless(megabytes))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert finding.id == "fp8-unsupported"
        assert finding.evidence[0].line == megabytes * 10_000 + 1
    assert peaks[1] < 64 * 2**20
    assert peaks[1] < peaks[0] * 3


def test_memory_does_not_grow_with_a_line(tmp_path: Path) -> None:
    log = tmp_path / "progress.log"
    log.write_bytes(b"50% |\r" * 4_000_000)
    tracemalloc.start()
    diagnose_files([str(log)])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_the_forms_remembered_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "_FORMS", 100)
    scanner = scan.Scanner(SIGNATURES.values())
    scanner.read("xyz"[i % 3] * i for i in range(1000))
    assert len(scanner._forms) <= 100
    assert len(scanner._seen) <= 100


def test_unknown_errors_without_end_are_read_in_bounded_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    contexts = 0
    real = scan.Scanner._before

    def counted(scanner: scan.Scanner, parsed: LogLine) -> str:
        nonlocal contexts
        contexts += 1
        return real(scanner, parsed)

    monkeypatch.setattr(scan.Scanner, "_before", counted)
    monkeypatch.setattr(scan, "_GUESSES", 40)
    lines = [f"ValueError: {'xyz'[i % 3] * i}" for i in range(1000)]
    assert ids([*lines, "RuntimeError: fp8 quantization is currently not supported in npu."]) == [
        "fp8-unsupported"
    ]
    assert contexts <= 41


def test_codes_that_differ_only_in_digits_are_all_seen() -> None:
    lines = [f"[rank{i}]: RuntimeError: operator(): error code is {code}" for i in range(8)
             for code in (507011, 207008, 107027)]  # fmt: skip
    assert set(ids(lines)) == {"device-exception", "stream-exhaustion", "graph-capture-other"}


def test_several_logs_are_one_run_in_the_order_of_time() -> None:
    late = worker(7, "ValueError: fp8 quantization is currently not supported in npu.")
    early = worker(2, "OSError: [Errno 28] No space left on device")
    found = diagnose_logs([("rank7.log", late), ("rank2.log", early)])
    assert [finding.id for finding in found] == ["disk-or-shm", "fp8-unsupported"]
    assert [finding.evidence[0].file for finding in found] == ["rank2.log", "rank7.log"]


def run(*arguments: str, stdin: bytes = b"", code: int = 0) -> str:
    command = "from vllm_ascend_bringup.tools.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", command, "diagnose", *arguments],
        input=stdin, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return (done.stdout or done.stderr).decode()


def test_json_in_a_language() -> None:
    output = json.loads(
        run("--json", "--lang", "zh", "-", stdin="\n".join(worker(3, _FULL)).encode())
    )
    assert list(output) == ["schema_version", "findings"]
    assert output["schema_version"] == 1
    (finding,) = output["findings"]
    assert list(finding) == ["id", "confidence", "title", "evidence", "actions"]
    assert (finding["id"], finding["evidence"][0]["line"]) == ("oom-kv-or-activation", 1)
    assert list(finding["evidence"][0]) == ["line", "text"]
    assert "显存不足" in finding["title"]


def test_text_names_the_cause_quotes_it_and_says_what_it_triggered(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_text("\n".join([*worker(3, _FULL), *worker(1, _WAITED), *_WRAPPERS]))
    english, chinese = run(str(log), "--lang", "en"), run(str(log), "--lang", "zh")
    for text in (english, chinese):
        assert text.index("oom-kv-or-activation") < text.index("hccl-timeout")
        assert "  1  (Worker_TP3 pid=23)" in text
        assert "--max-model-len" in text
    assert "likely what the first one triggered" in english
    assert "很可能由上面的原因引起" in chinese
    assert "What to do" not in chinese


def test_brackets_in_a_log_are_quoted_as_they_are() -> None:
    line = "ValueError: fp8 quantization is currently not supported in npu. [bold] [/a/b.py:1]"
    assert line in run("-", stdin=line.encode())


def test_several_files_are_named_in_the_evidence(tmp_path: Path) -> None:
    logs = [tmp_path / "a.log", tmp_path / "b.log"]
    logs[0].write_text("all is well\n")
    logs[1].write_text("all is well\r\n" + "\n".join(worker(3, _FULL)))
    output = json.loads(run("--json", *map(str, logs)))
    assert output["findings"][0]["evidence"][0]["file"] == str(logs[1])
    assert output["findings"][0]["evidence"][0]["line"] == 2


def test_bytes_that_are_no_text_and_lines_without_end(tmp_path: Path) -> None:
    log = tmp_path / "server.log"
    log.write_bytes(b"\xff\xfe\x00" + b"\rloading 7%" * 30_000 + b"\n" + _FAULT.encode())
    assert json.loads(run("--json", str(log)))["findings"][0]["id"] == "device-exception"


def test_a_log_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing.log", tmp_path):
        message = run(str(path), "--lang", "en", code=2)
        assert str(path) in message
        assert "To do:" in message
    assert "无法读取" in run(str(tmp_path / "missing.log"), "--lang", "zh", code=2)


def test_no_log_is_wrong_usage() -> None:
    assert "LOG" in run(code=2)


@pytest.mark.skipif(not CORPUS.is_dir(), reason=f"no labelled logs at {CORPUS}")
def test_the_labelled_logs() -> None:
    """Real logs; the file's name before the number is its label."""
    logs = sorted(CORPUS.glob("*.log"))
    misses = []
    for log in logs:
        with log.open(encoding="utf-8", errors="replace") as lines:
            found = [finding.id for finding in diagnose(lines)]
        if found[0] != log.stem.rpartition("__")[0]:
            misses.append(f"{log.stem}: {', '.join(found)}")
    assert len(logs) >= 50
    assert 1 - len(misses) / len(logs) >= TARGET, "\n".join(misses)
