# SPDX-License-Identifier: Apache-2.0
"""`bringup validate` as a user runs it: real servers, planted defects, nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import tiny_llava
from engine_kit import processes_in, wait_until_left
from planted import SCALE, broken_demo, drop, mixture_of_experts, plugin, recipe, shuffle

from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.validate.checks.catalog import CHECKS

BRINGUP = str(Path(sys.executable).with_name("bringup"))
SUPPORT = Path(tiny_llava.__file__).parent
# What lets torchvision be imported beside a CPU build of torch (see test_llava.py).
_SHIM = SUPPORT.parents[1] / "tools" / "beside_cpu_torch"
# Pictures, then texts: all that this model knows of a conversation.
_PICTURES_FIRST = (
    "{% for message in messages %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}{% endfor %}"
)
# A start keeps one core busy for half of its time.
_AT_ONCE = 3
REAL_ONLY = ("--no-dummy", "--no-ladder")

pytestmark = pytest.mark.engine


@dataclass(frozen=True)
class Validated:
    """What the command printed, with which exit code, and where it ran."""

    code: int
    content: Any
    printed: str
    folder: Path

    @property
    def real(self) -> Any:
        """The stage with real weights."""
        return self.content["stages"][1]

    def check(self, id_: str) -> Any:
        """One check of the stage with real weights."""
        (found,) = [check for check in self.real["checks"] if check["id"] == id_]
        return found


def command(model: Path, options: Sequence[str], arguments: Sequence[str]) -> list[str]:
    return [BRINGUP, "validate", str(model), *options, "--", *arguments]


def with_paths(environment: Mapping[str, str], *paths: Path) -> dict[str, str]:
    """This process's environment and more, with folders before PYTHONPATH."""
    known = os.environ.get("PYTHONPATH", "")
    joined = os.pathsep.join(filter(None, [*map(str, paths), known]))
    return {**os.environ, **environment, "PYTHONPATH": joined}


def validate(
    folder: Path,
    model: Path = CHECKPOINT,
    options: Sequence[str] = (),
    arguments: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
    meanwhile: Callable[[Path], None] = lambda _: None,
) -> Validated:
    """Run it in ``folder``, where it may leave no process."""
    folder.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        command(model, ("--json", *options), arguments), cwd=folder, text=True,
        env={**with_paths({}), **(environment or {}), "TMPDIR": str(folder)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    meanwhile(folder)
    printed, errors = process.communicate(timeout=600)
    wait_until_left(folder)
    content = json.loads(printed) if printed else None
    return Validated(process.returncode, content, errors, folder)


def wait_for_log(folder: Path, text: str) -> None:
    """Until a server's log in the folder says so."""
    deadline = time.monotonic() + 300
    while not any(text in log.read_text(errors="replace") for log in folder.glob("*/*.log")):
        assert time.monotonic() < deadline, f"no log says {text}"
        time.sleep(0.05)


def kill_engine(folder: Path) -> None:
    """The engine of the server that is started in the folder, once it is ready."""
    wait_for_log(folder, "Application startup complete")
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            mine = (entry / "cwd").resolve() == folder
            if mine and b"EngineCore" in (entry / "cmdline").read_bytes():
                os.kill(int(entry.name), signal.SIGKILL)
        except OSError:
            continue


def is_free(port: int) -> bool:
    """Whether nobody listens there; closed connections may linger."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) != 0


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
    return number


def _demo(folder: Path) -> Validated:
    port = str(free_port())
    found = validate(
        folder, options=("--report", "report"),
        arguments=("--served-model-name", "demo", "--port", port),
    )  # fmt: skip
    assert is_free(int(port))
    for stage in found.content["stages"]:
        assert stage["command"][stage["command"].index("--port") + 1] == port
    return found


def _capacity(folder: Path) -> Validated:
    # Two blocks of 128 tokens, for vLLM keeps one of them: half of what config.json allows.
    return validate(
        folder, options=("--no-dummy", "--capacity"),
        arguments=("--num-gpu-blocks-override", "3", "--max-model-len", "256"),
    )  # fmt: skip


def _picture(folder: Path) -> Validated:
    beside = with_paths({}, _SHIM, Path(sys.prefix) / "multimodal", SUPPORT)
    model = folder / "model"
    request = folder / "request.json"
    request.write_text(json.dumps({"do": "write", "folder": str(model)}))
    subprocess.run(
        [sys.executable, tiny_llava.__file__, str(request), str(folder / "answer.json")],
        env=beside, check=True, capture_output=True,
    )  # fmt: skip
    (model / "chat_template.jinja").write_text(_PICTURES_FIRST)
    return validate(
        folder, model, (*REAL_ONLY, "--random-weights"), ("--dtype", "bfloat16"), beside
    )


def _features(folder: Path) -> Validated:
    shared = set(Path("/dev/shm").glob("*-cpushm_*"))
    found = validate(
        folder, mixture_of_experts(folder / "model"),
        (*REAL_ONLY, "--random-weights", "--features"), ("--tensor-parallel-size", "2"),
    )  # fmt: skip
    # No other case has ranks that share memory.
    assert set(Path("/dev/shm").glob("*-cpushm_*")) <= shared
    return found


def _orphan_scale(folder: Path) -> Validated:
    return validate(folder, broken_demo(folder / "model", drop(SCALE)), REAL_ONLY)


def _wrong_recipe(folder: Path) -> Validated:
    wrong = recipe(folder, '[[rule]]\nsuffix = "norm.weight"\ndrop = true')
    return validate(folder, options=REAL_ONLY, environment=wrong)


def _crash(folder: Path) -> Validated:
    return validate(
        folder, options=REAL_ONLY, environment=with_paths({}, plugin(folder / "path", "crash"))
    )


def _garbage(folder: Path) -> Validated:
    return validate(folder, broken_demo(folder / "model", shuffle), REAL_ONLY)


def _too_long(folder: Path) -> Validated:
    return validate(folder, options=("--no-dummy",), arguments=("--max-model-len", "4096"))


def _killed(folder: Path) -> Validated:
    return validate(folder, options=REAL_ONLY, meanwhile=kill_engine)


def _hung(folder: Path) -> Validated:
    return validate(
        folder, options=(*REAL_ONLY, "--phase-timeout", "20"),
        environment=with_paths({}, plugin(folder / "path", "hang")),
    )  # fmt: skip


def _interrupted(end: signal.Signals, moment: str) -> Callable[[Path], Validated]:
    def run(folder: Path) -> Validated:
        port = free_port()
        process = subprocess.Popen(
            command(CHECKPOINT, REAL_ONLY, ("--port", str(port))), cwd=folder,
            env={**with_paths({}), "TMPDIR": str(folder)}, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
            # A job in the background of a shell is born deaf to it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip
        wait_for_log(folder, moment)
        running = len(processes_in(folder))
        process.send_signal(end)
        code = process.wait(120)
        wait_until_left(folder)
        assert is_free(port)
        assert running > 2
        return Validated(code, None, "", folder)

    return run


# What is planted, the label it must get, and the check that finds it.
DEFECTS: dict[str, tuple[Callable[[Path], Validated], str, str]] = {
    "hung-start": (_hung, "start-timeout", "start"),
    "too-long": (_too_long, "max-model-len", "start"),
    "garbage": (_garbage, "output-quality", "likelihood"),
    "first-request-crashes": (_crash, "false-ready", "text"),
    "server-killed": (_killed, "server-killed", ""),
    "orphan-scale": (_orphan_scale, "scale-pairing", "start"),
    "wrong-recipe": (_wrong_recipe, "weight-key-mismatch", "start"),
}
INTERRUPTIONS = {
    "SIGINT": _interrupted(signal.SIGINT, "Initializing a V1 LLM engine"),
    "SIGTERM": _interrupted(signal.SIGTERM, "Starting to load model"),
    "SIGKILL": _interrupted(signal.SIGKILL, "Application startup complete"),
}
# The longest first.
CASES: dict[str, Callable[[Path], Validated]] = {
    "capacity": _capacity, "features": _features, "demo": _demo, "picture": _picture,
    **{name: run for name, (run, _, _) in DEFECTS.items()}, **INTERRUPTIONS,
}  # fmt: skip


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mapping[str, "Future[Validated]"]]:
    """Those of the selected tests, side by side."""
    chosen = {
        item.callspec.params.get("case")
        for item in request.session.items
        if hasattr(item, "callspec")
    }
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        yield {
            name: pool.submit(run, tmp_path_factory.mktemp(name).resolve())
            for name, run in CASES.items()
            if name in chosen
        }


@pytest.fixture
def found(case: str, runs: Mapping[str, "Future[Validated]"]) -> Validated:
    """What became of it; raises what went wrong in it."""
    return runs[case].result()


@pytest.mark.parametrize("case", ["demo"])
def test_the_demo_passes_with_dummy_and_real_weights(case: str, found: Validated) -> None:
    assert found.code == 0, found.printed
    content = found.content
    assert (content["schema_version"], content["command"]) == (1, "validate")
    assert (content["verdict"], content["label"], content["ladder"]) == ("pass", None, [])
    dummy, real = content["stages"]
    assert dummy["changed"] == ["--load-format dummy"]
    for stage in (dummy, real):
        assert stage["state"] == "passed"
        moments = [event["seconds"] for event in stage["timeline"]]
        assert moments == sorted(moments)
        named = [event["name"] for event in stage["timeline"]]
        assert [named[0], named[-1]] == ["process", "ready"]
        assert {"config", "engine", "load", "profiled", "initialized", "api"} <= set(named)
    states = {check["id"]: check["state"] for check in real["checks"]}
    assert states == {
        **dict.fromkeys(("start", *CHECKS), "passed"), "picture": "not-applicable",
    }  # fmt: skip
    judged = {id_ for id_, rule in CHECKS.items() if rule.needs != "anything"}
    skipped = {check["id"] for check in dummy["checks"] if check["state"] == "not-applicable"}
    assert skipped == {*judged, "picture"}
    assert "Paris" in found.check("text")["evidence"][0]["en"]
    assert {feature["id"]: feature["state"] for feature in content["features"]} == {
        "graph-mode": "unsupported", "expert-parallelism": "not-applicable",
        "flashcomm1": "not-applicable", "mtp": "not-applicable", "multimodal": "not-applicable",
    }  # fmt: skip
    assert content["environment"]["platform"].startswith("reference-a2 (CPU")
    assert any("reference-a2" in limit["en"] for limit in content["limits"])
    assert content["plan"]["memory"]["parts"]
    written = Path(dummy["log"]).parents[1] / "report.json"
    assert json.loads((found.folder / written).read_text()) == content


@pytest.mark.parametrize("case", ["picture"])
def test_a_model_that_sees_answers_about_a_picture(case: str, found: Validated) -> None:
    assert found.code == 0, found.printed
    assert found.check("picture")["state"] == "passed"
    states = {check["id"]: check["state"] for check in found.real["checks"]}
    assert (states["content"], states["likelihood"]) == ("not-applicable", "not-applicable")
    features = {feature["id"]: feature["state"] for feature in found.content["features"]}
    assert features["multimodal"] == "verified"
    assert any("--random-weights" in limit["en"] for limit in found.content["limits"])


@pytest.mark.parametrize("case", DEFECTS)
def test_a_planted_defect_gets_its_label(case: str, found: Validated) -> None:
    _, label, check = DEFECTS[case]
    assert found.code == 14, found.printed
    assert (found.content["verdict"], found.content["label"]) == ("fail", label)
    failed = [each for each in found.real["checks"] if each["state"] == "failed"]
    assert failed[0]["label"] == label
    assert failed[0]["evidence"]
    if check:
        assert failed[0]["id"] == check
    assert found.content["stages"][0]["state"] == "not-run"
    assert label in found.printed


@pytest.mark.parametrize("case", ["first-request-crashes"])
def test_a_false_ready_server_is_diagnosed(case: str, found: Validated) -> None:
    assert found.real["ready_after"] is not None
    assert "planted: the operator takes no such shape" in found.check("text")["evidence"][-1]
    assert found.real["diagnoses"][0]["id"] == "false-ready"


@pytest.mark.parametrize("case", ["too-long"])
def test_the_rung_that_passes_is_named_and_the_verdict_stays(case: str, found: Validated) -> None:
    rungs = {rung["stage"]: rung["state"] for rung in found.content["ladder"]}
    assert rungs == {
        **dict.fromkeys(("reproduce", "enforce-eager", "no-dynamo", "text-only"), "not-run"),
        "smaller-shapes": "passed",
    }
    assert found.content["verdict"] == "fail"
    assert "--max-model-len 256" in found.content["summary"]["en"]


@pytest.mark.parametrize("case", ["capacity"])
def test_the_largest_sizes_that_serve_are_found(case: str, found: Validated) -> None:
    assert found.code == 0, found.printed
    capacity = found.content["capacity"]
    assert (capacity["theoretical_len"], capacity["practical_len"]) == (512, 256)
    assert capacity["practical_seqs"] == capacity["estimated_seqs"] == 1
    tried = [(t["max_model_len"], t["max_num_seqs"], t["served"]) for t in capacity["trials"]]
    assert tried == [(512, 1, False), (256, 1, True), (256, 1, True)]
    assert capacity["trials"][0]["label"] == "max-model-len"


@pytest.mark.parametrize("case", ["features"])
def test_a_feature_gets_a_server_of_its_own(case: str, found: Validated) -> None:
    assert found.code == 0, found.printed
    features = {feature["id"]: feature for feature in found.content["features"]}
    experts = features.pop("expert-parallelism")
    assert {id_: feature["state"] for id_, feature in features.items()} == {
        "graph-mode": "unsupported", "flashcomm1": "unsupported", "mtp": "not-applicable",
        "multimodal": "not-applicable",
    }  # fmt: skip
    (log,) = found.folder.glob("*/*-feature-expert-parallelism.log")
    assert "Expert parallelism is enabled" in log.read_text()
    # vLLM 0.32's own operators die of it on a CPU, most times.
    if experts["state"] == "verified":
        assert "Local/global number of experts: 2/4" in experts["evidence"][0]
    else:
        assert experts["state"] == "unsupported"
        assert experts["evidence"][0]["en"].startswith("a server with it failed: ")


@pytest.mark.parametrize("case", INTERRUPTIONS)
def test_who_interrupts_it_finds_no_process_and_no_port(case: str, found: Validated) -> None:
    assert found.code != 0


def test_a_port_that_somebody_listens_on_is_left_alone(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = listener.getsockname()[1]
        arguments = ("--port", str(taken), "--api-key", "a secret")
        found = validate(tmp_path / "run", arguments=arguments)
        told = validate(tmp_path / "run", options=("--lang", "zh"), arguments=arguments)
        assert found.code == 14, found.printed
        assert found.content["label"] == "port-in-use"
        dummy, real = found.content["stages"]
        assert (dummy["label"], real["state"]) == ("port-in-use", "not-run")
        assert str(taken) in dummy["checks"][0]["evidence"][0]["en"]
        # Each rung says why it cannot help.
        assert {rung["state"] for rung in found.content["ladder"]} == {"not-run"}
        assert all(rung["note"]["en"] for rung in found.content["ladder"])
        assert "a secret" not in json.dumps([found.content, told.content])
        assert dummy["checks"][0]["evidence"][0]["zh"].startswith("127.0.0.1 的端口")
        assert "真实权重：未运行" in told.printed
        with socket.create_connection(listener.getsockname()):
            pass


@pytest.mark.parametrize(
    ("model", "arguments", "code", "found", "expected"),
    [
        ("nowhere", (), 4, "nowhere", "Expected"),
        (CHECKPOINT, ("--load-format", "dummy"), 3, "--load-format dummy", "real weights"),
        (CHECKPOINT, ("--port", "http"), 3, "--port http", "1 to 65535"),
        (CHECKPOINT, ("--uds", "/run/x"), 3, "--uds", "plain HTTP"),
    ],
)
def test_what_cannot_be_validated_is_one_clear_error(
    model: str, arguments: Sequence[str], code: int, found: str, expected: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        [BRINGUP, "validate", str(model), "--lang", "en", "--", *arguments], cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert found in done.stderr
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*/*.log"))
