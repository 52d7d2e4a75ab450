# SPDX-License-Identifier: Apache-2.0
"""Rules about the host, its processes and ports, and about environment variables."""

import pytest
from doctor_kit import found, known, rule, severities

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.facts import (
    AscendSource,
    Listener,
    ModelFiles,
    OwnState,
    Package,
    Process,
    Request,
    Space,
)

MIB, GIB = 1 << 20, 1 << 30
PLUGINS = (
    "vllm.general_plugins:ascend_bringup", "vllm.platform_plugins:ascend_bringup",
    "vllm.platform_plugins:ascend",
)  # fmt: skip


def model(weights: int = 0, experts: int = 0) -> ModelFiles:
    return ModelFiles("/model", weights, True, (), {}, 0, (), None, experts, False, None)


@pytest.mark.parametrize(
    ("total", "free", "ranks", "expected"),
    [
        (64 * MIB, 64 * MIB, 1, ["warning"]), (64 * MIB, 64 * MIB, 2, ["error"]),
        (GIB - 1, GIB - 1, 1, ["warning"]), (GIB, GIB, 1, []), (GIB, GIB, 8, []),
        (10 * GIB, 160 * MIB - 1, 2, ["error"]), (10 * GIB, 160 * MIB, 2, []),
        (10 * GIB, 0, 1, []),
    ],
)  # fmt: skip
def test_shared_memory(total: int, free: int, ranks: int, expected: list[str]) -> None:
    facts = {"shared_memory": Space(total, free), "request": Request(tp=ranks)}
    assert severities("shared-memory", **facts) == expected


@pytest.mark.parametrize(
    ("memory", "nodes", "expected"),
    [
        (130 * GIB, 1, []), (130 * GIB - 1, 1, ["warning"]), (100 * GIB, 1, ["warning"]),
        (100 * GIB - 1, 1, ["error"]), (65 * GIB, 2, []), (65 * GIB - 1, 2, ["warning"]),
        (50 * GIB - 1, 2, ["error"]),
    ],
)  # fmt: skip
def test_host_memory(memory: int, nodes: int, expected: list[str]) -> None:
    facts = {"model": model(100 * GIB), "memory": memory, "request": Request(nodes=nodes)}
    assert severities("host-memory", **facts) == expected


def test_host_memory_shows_its_sum() -> None:
    text = found("host-memory", model=model(100 * GIB), memory=50 * GIB, request=Request(nodes=2))
    assert text == (
        "free host memory: 50.00 GiB / at least 65.00 GiB (100.00 GiB of weights / 2 x 1.3)"
    )


def listening(*ports: int) -> tuple[Listener, ...]:
    return tuple(Listener(port, Process(4711, "vllm serve")) for port in ports)


@pytest.mark.parametrize(
    ("ports", "expected"), [((), []), ((7999, 8001), []), ((22, 8000), ["error"])]
)
def test_port_in_use(ports: tuple[int, ...], expected: list[str]) -> None:
    assert severities("port-in-use", listeners=listening(*ports)) == expected


def test_port_in_use_names_who_has_it() -> None:
    assert "process 4711 (vllm serve)" in found("port-in-use", listeners=listening(8000))
    unseen = (Listener(8000, Process(None, "")),)
    assert "a process of another user" in found("port-in-use", listeners=unseen)


def test_stale_server() -> None:
    assert severities("stale-server", servers=()) == []
    servers = (Process(1, "vllm serve x"), Process(2, "VLLM::EngineCore"))
    assert severities("stale-server", servers=servers) == ["warning"]
    assert "process 2: VLLM::EngineCore" in found("stale-server", servers=servers)


@pytest.mark.parametrize(
    ("port", "tp", "environ", "expected"),
    [
        (59999, 2, {}, []), (60000, 2, {}, ["warning"]), (60015, 2, {}, ["warning"]),
        (60016, 2, {}, []), (60000, 1, {}, []),
        (50015, 2, {"HCCL_IF_BASE_PORT": "50000"}, ["warning"]),
        (60000, 2, {"HCCL_IF_BASE_PORT": "50000"}, []),
        (60000, 2, {"HCCL_HOST_SOCKET_PORT_RANGE": "auto"}, []),
        (60000, 2, {"HCCL_IF_BASE_PORT": "x"}, []),
    ],
)  # fmt: skip
def test_hccl_ports(port: int, tp: int, environ: dict[str, str], expected: list[str]) -> None:
    facts = {"listeners": listening(port), "environ": environ, "request": Request(tp=tp)}
    assert severities("hccl-ports", **facts) == expected


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("HCCL_CONNECT_TIMEOUT", "119", ["error"]), ("HCCL_CONNECT_TIMEOUT", "120", []),
        ("HCCL_CONNECT_TIMEOUT", "7200", []), ("HCCL_CONNECT_TIMEOUT", "7201", ["error"]),
        ("HCCL_IF_BASE_PORT", "1023", ["error"]), ("HCCL_IF_BASE_PORT", "1024", []),
        ("HCCL_IF_BASE_PORT", "65520", []), ("HCCL_IF_BASE_PORT", "65521", ["error"]),
        ("HCCL_BUFFSIZE", "0", ["error"]), ("HCCL_BUFFSIZE", "1", []),
        ("HCCL_BUFFSIZE", "1024", []), ("HCCL_BUFFSIZE", "200M", ["error"]),
        ("HCCL_EXEC_TIMEOUT", "0", []), ("HCCL_EXEC_TIMEOUT", "-1", ["error"]),
        ("HCCL_OP_EXPANSION_MODE", "AIV", []), ("HCCL_OP_EXPANSION_MODE", "HOST_TS", []),
        ("HCCL_OP_EXPANSION_MODE", "FFTS", ["error"]), ("HCCL_DETERMINISTIC", "TRUE", []),
        ("HCCL_DETERMINISTIC", "1", ["error"]), ("HCCL_DETERMINISTIC", "strict", []),
    ],
)  # fmt: skip
def test_hccl_environment(name: str, value: str, expected: list[str]) -> None:
    assert severities("hccl-environment", environ={name: value}) == expected


def test_hccl_environment_states_the_range() -> None:
    text = found("hccl-environment", environ={"HCCL_BUFFSIZE": "0", "HCCL_CONNECT_TIMEOUT": "1"})
    assert text == (
        "HCCL_CONNECT_TIMEOUT: 1 / a whole number from 120 to 7200\n"
        "HCCL_BUFFSIZE: 0 / a whole number from 1"
    )


def test_omp_threads_says_how_many() -> None:
    for name, share in (("OMP_NUM_THREADS", 1), ("VLLM_ASCEND_BRINGUP_THREADS", 4)):
        facts = known(environ={name: "32"}, cores=16, request=Request(tp=4))
        (finding,) = rule("omp-threads").apply(facts)
        assert str(finding.actions[0]) == f"export {name}={share}"


def test_a_310p_has_no_aiv() -> None:
    aiv = {"HCCL_OP_EXPANSION_MODE": "AIV"}
    assert severities("hccl-environment", environ=aiv, chip=CHIPS["310p"]) == ["note"]
    assert severities("hccl-environment", environ=aiv, chip=CHIPS["a3"]) == []
    host = {"HCCL_OP_EXPANSION_MODE": "HOST"}
    assert severities("hccl-environment", environ=host, chip=CHIPS["310p"]) == []


def test_deterministic_sums_cancel_aiv() -> None:
    both = {"HCCL_OP_EXPANSION_MODE": "AIV", "HCCL_DETERMINISTIC": "true"}
    assert severities("hccl-environment", environ=both) == ["note"]
    assert severities("hccl-environment", environ={**both, "HCCL_DETERMINISTIC": "false"}) == []


@pytest.mark.parametrize(
    ("name", "value", "ranks", "expected"),
    [
        ("OMP_NUM_THREADS", "4", 4, []), ("OMP_NUM_THREADS", "5", 4, ["warning"]),
        ("OMP_NUM_THREADS", "16", 1, []), ("OMP_NUM_THREADS", "17", 1, ["warning"]),
        ("OMP_NUM_THREADS", "8,2", 2, []), ("OMP_NUM_THREADS", "0", 1, ["error"]),
        ("OMP_NUM_THREADS", "many", 1, ["error"]),
        ("VLLM_ASCEND_BRINGUP_THREADS", "4", 4, []),
        ("VLLM_ASCEND_BRINGUP_THREADS", "5", 4, ["warning"]),
        ("VLLM_ASCEND_BRINGUP_THREADS", "auto", 4, []),
    ],
)  # fmt: skip
def test_omp_threads(name: str, value: str, ranks: int, expected: list[str]) -> None:
    facts = {"environ": {name: value}, "cores": 16, "request": Request(tp=ranks)}
    assert severities("omp-threads", **facts) == expected


def test_omp_threads_counts_the_ranks_of_this_machine() -> None:
    facts = {"environ": {"OMP_NUM_THREADS": "4"}, "cores": 16}
    assert severities("omp-threads", request=Request(tp=8, nodes=2), **facts) == []
    assert severities("omp-threads", request=Request(tp=9, nodes=2), **facts) == ["warning"]
    text = found("omp-threads", request=Request(tp=8), **facts)
    assert "4 x 8 = 32 / at most 16, the cores" in text


PROFILE = {
    "LCCL_DETERMINISTIC": "1", "HCCL_DETERMINISTIC": "true", "ATB_MATMUL_SHUFFLE_K_ENABLE": "0",
    "ATB_LLM_LCOC_ENABLE": "0",
}  # fmt: skip


def test_determinism() -> None:
    assert severities("determinism", environ={}) == []
    assert severities("determinism", environ=PROFILE) == ["note"]
    assert severities("determinism", environ={**PROFILE, "HCCL_DETERMINISTIC": "strict"}) == [
        "note"
    ]
    assert severities("determinism", environ={"HCCL_DETERMINISTIC": "false"}) == []


@pytest.mark.parametrize("name", PROFILE)
def test_half_of_the_profile(name: str) -> None:
    half = {key: value for key, value in PROFILE.items() if key != name}
    assert severities("determinism", environ=half) == ["warning"]
    assert found("determinism", environ=half) == f"{name}: not set / {PROFILE[name]}"
    wrong = {**PROFILE, name: "2"}
    assert found("determinism", environ=wrong) == f"{name}: 2 / {PROFILE[name]}"
    assert severities("determinism", environ={name: PROFILE[name]}) == ["warning"]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("expandable_segments:True", []), ("expandable_segments:False", []),
        ("expandable_segments:true", ["error"]), ("max_split_size_mb:256", []),
        ("max_split_size_mb:20", ["error"]), ("max_split_size_mb:21", []),
        ("max_split_size_mb:big", ["error"]),
        ("garbage_collection_threshold:0.6", []), ("garbage_collection_threshold:0", ["error"]),
        ("garbage_collection_threshold:1", ["error"]),
        ("garbage_collection_threshold:x", ["error"]),
        ("base_addr_aligned_kb:16", []), ("base_addr_aligned_kb:17", ["error"]),
        ("page_size:1g", []), ("page_size:2m", ["error"]),
        ("page_size:1g, expandable_segments:True", []),
        ("expandable_segment:True", ["warning"]), ("", []),
        ("max_split_size_mb:256,expandable_segments:True", ["error"]),
        ("garbage_collection_threshold:0.6,expandable_segments:True", ["error"]),
        ("max_split_size_mb:256,expandable_segments:False", []),
    ],
)  # fmt: skip
def test_alloc_conf(value: str, expected: list[str]) -> None:
    assert severities("alloc-conf", environ={"PYTORCH_NPU_ALLOC_CONF": value}) == expected


def test_alloc_conf_under_two_names() -> None:
    one = {"PYTORCH_NPU_ALLOC_CONF": "expandable_segments:True"}
    assert severities("alloc-conf", environ={**one, "PYTORCH_ALLOC_CONF": "x"}) == ["error"]
    assert severities("alloc-conf", environ={"PYTORCH_ALLOC_CONF": "x"}) == []


@pytest.mark.parametrize(("value", "expected"), [("0", []), ("1", ["error"]), (None, [])])
def test_launch_blocking(value: "str | None", expected: list[str]) -> None:
    environ = {} if value is None else {"ASCEND_LAUNCH_BLOCKING": value}
    assert severities("launch-blocking", environ=environ) == expected


@pytest.mark.parametrize(
    ("value", "weights", "nodes", "expected"),
    [
        (None, 300_000_000_000, 1, []), (None, 301_000_000_000, 1, ["note"]),
        (None, 600_000_000_000, 2, []), (None, 602_000_000_000, 2, ["note"]),
        ("3600", 301_000_000_000, 1, []), ("10m", 1, 1, ["error"]), ("0", 1, 1, ["error"]),
    ],
)  # fmt: skip
def test_ready_timeout(value: "str | None", weights: int, nodes: int, expected: list[str]) -> None:
    environ = {} if value is None else {"VLLM_ENGINE_READY_TIMEOUT_S": value}
    facts = {"environ": environ, "model": model(weights), "request": Request(nodes=nodes)}
    assert severities("ready-timeout", **facts) == expected


def test_a_bad_ready_timeout_needs_no_model() -> None:
    environ = {"VLLM_ENGINE_READY_TIMEOUT_S": "soon"}
    assert severities("ready-timeout", environ=environ) == ["error"]


BOTH, OLD, GONE = ("environment", "additional_config"), ("environment",), ()


@pytest.mark.parametrize(
    ("value", "reads", "tp", "experts", "expected"),
    [
        (None, BOTH, 4, 8, []), ("0", BOTH, 4, 8, []), ("1", BOTH, 4, 8, ["note"]),
        ("1", OLD, 4, 8, []), ("1", GONE, 4, 8, ["warning"]), ("1", OLD, 1, 8, ["error"]),
        ("1", OLD, 2, 8, []), ("1", BOTH, 4, 0, ["warning"]), ("1", GONE, 1, 0, ["warning"]),
    ],
)  # fmt: skip
def test_flashcomm1(
    value: "str | None", reads: tuple[str, ...], tp: int, experts: int, expected: list[str]
) -> None:
    facts = {
        "environ": {} if value is None else {"VLLM_ASCEND_ENABLE_FLASHCOMM1": value},
        "ascend": AscendSource((), reads, True, "A2"), "request": Request(tp=tp),
        "model": model(experts=experts),
    }  # fmt: skip
    assert severities("flashcomm1", **facts) == expected


def test_plugin_settings() -> None:
    wrong = tuple(Text(word, word) for word in ("X='y'", "one of a, b", "unset it"))
    (found_, expected, fix) = wrong
    assert severities("plugin-settings", own=OwnState(None, (), {})) == []
    assert severities("plugin-settings", own=OwnState((found_, expected, fix), (), {})) == ["error"]


@pytest.mark.parametrize(
    ("registered", "variable", "npu", "expected"),
    [
        (PLUGINS, None, True, []), (PLUGINS[:2], None, False, []),
        (PLUGINS[:2], None, True, ["error"]),
        (PLUGINS[1:], None, True, ["error"]), ((), None, False, ["error"]),
        (PLUGINS, "ascend,ascend_bringup", True, []), (PLUGINS, "ascend_bringup", True, []),
        (PLUGINS, "ascend", True, ["warning"]), (PLUGINS, "other", True, ["error"]),
        (PLUGINS[:2], "other", False, ["warning"]), (PLUGINS, "", True, ["error"]),
    ],
)  # fmt: skip
def test_plugin_entry_points(
    registered: tuple[str, ...], variable: "str | None", npu: bool, expected: list[str]
) -> None:
    facts = {
        "own": OwnState(None, registered, {}),
        "environ": {} if variable is None else {"VLLM_PLUGINS": variable},
        "packages": {"vllm-ascend": Package("vllm-ascend", "0.23.0")} if npu else {},
    }
    assert severities("plugin-entry-points", **facts) == expected


def test_plugin_patches() -> None:
    assert severities("plugin-patches", own=OwnState(None, (), {})) == []
    assert severities("plugin-patches", own=OwnState(None, (), {"p": "changed"})) == ["warning"]
