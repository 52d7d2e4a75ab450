# SPDX-License-Identifier: Apache-2.0
"""Rules about chips, their device files, driver, firmware, CANN and NNAL."""

import pytest
from doctor_kit import found, known, rule, severities

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.tools.doctor.facts import (
    Answer,
    AscendSource,
    Component,
    DeviceFiles,
    Firmware,
    Library,
    Npu,
    NpuProcess,
    Package,
    Request,
)

NPU = Npu(0, 0, "910B3", "OK", 3400, 65536)
DUO, A2, A5 = CHIPS["310p"], CHIPS["a2"], CHIPS["950"]


def npus(*names: str, health: str = "OK") -> tuple[Npu, ...]:
    return tuple(Npu(card, 0, name, health, 0, 1) for card, name in enumerate(names))


@pytest.mark.parametrize(
    ("answer", "listed", "expected"),
    [
        (Answer("npu-smi info", 0, "table", 0.1), (NPU,), []),
        (Answer("npu-smi info", 0, "", 0.1), None, ["error"]),
        (Answer("npu-smi info", 1, "dcmi model initialized failed", 0.1), None, ["error"]),
        (Answer("npu-smi info", None, "", 10.0), None, ["error"]),
    ],
    ids=["answers", "no chips", "fails", "hangs"],
)
def test_npu_smi(answer: Answer, listed: "tuple[Npu, ...] | None", expected: list[str]) -> None:
    assert severities("npu-smi", smi=answer, npus=listed) == expected


def test_npu_smi_quotes_what_was_said() -> None:
    failed = Answer("npu-smi info", 8, "first\ndcmi module initialize failed. ret is -8005\n", 0.1)
    assert "exit code 8: dcmi module initialize failed. ret is -8005" in found(
        "npu-smi", smi=failed
    )
    assert "no answer in 10 s" in found("npu-smi", smi=Answer("npu-smi info", None, "", 10.0))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("910B3", []), ("910B4-1", []), ("910B2C", []), ("Ascend910", []), ("310P3", []),
        ("Ascend310P3", []), ("a2g3", []), ("950PR", []),
        ("310B1", ["error"]), ("310", ["error"]), ("910A", ["error"]), ("910B", ["error"]),
        ("910ProB", ["error"]), ("910PremiumA", ["error"]), ("910", ["error"]),
        ("970X", ["warning"]),
    ],
)  # fmt: skip
def test_device_unsupported(name: str, expected: list[str]) -> None:
    assert severities("device-unsupported", npus=npus(name, name)) == expected


@pytest.mark.parametrize(
    ("health", "expected"),
    [("OK", []), ("Warning", ["warning"]), ("Alarm", ["error"]), ("Critical", ["error"]),
     ("UNKNOWN", ["error"])],
)  # fmt: skip
def test_device_health(health: str, expected: list[str]) -> None:
    assert severities("device-health", npus=(NPU, *npus("910B3", health=health))) == expected


def test_device_busy() -> None:
    assert severities("device-busy", npu_processes=()) == []
    process = NpuProcess(3, 1, 4711, "VLLM::Worker", 57000)
    assert severities("device-busy", npu_processes=(process,)) == ["warning"]
    text = found("device-busy", npu_processes=(process,))
    assert "on NPU 3 chip 1: process 4711 (VLLM::Worker) with 57000 MiB" in text


@pytest.mark.parametrize(
    ("variable", "tp", "nodes", "expected"),
    [
        (None, 3, 1, []), (None, 4, 1, []), (None, 5, 1, ["error"]), (None, 8, 2, []),
        (None, 9, 2, ["error"]),
        ("0,1", 2, 1, []), ("0,1", 3, 1, ["error"]), ("3,2,1,0", 4, 1, []),
        ("0,4", 1, 1, ["error"]), ("0,0", 1, 1, ["error"]), ("all", 1, 1, ["error"]),
        ("", 1, 1, ["error"]),
    ],
)  # fmt: skip
def test_visible_devices(variable: "str | None", tp: int, nodes: int, expected: list[str]) -> None:
    environ = {} if variable is None else {"ASCEND_RT_VISIBLE_DEVICES": variable}
    four = npus(*["910B3"] * 4)
    request = Request(tp=tp, nodes=nodes)
    assert severities("visible-devices", npus=four, environ=environ, request=request) == expected


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("23.0.6", ["error"]), ("23.0.7", ["warning"]), ("24.1.rc1", ["warning"]),
        ("24.1.rc2", []), ("24.1.0", []),
    ],
)  # fmt: skip
def test_driver_min(version: str, expected: list[str]) -> None:
    assert severities("driver-min", driver=Component(version, "version.info")) == expected


def test_driver_min_states_both_versions() -> None:
    text = found("driver-min", driver=Component("23.0.6", "version.info"))
    assert text == "driver (version.info): 23.0.6 / at least 23.0.7"


@pytest.mark.parametrize(
    ("compatible", "expected"), [("OK", []), ("NA", []), (None, []), ("Warning", ["warning"])]
)
def test_firmware(compatible: "str | None", expected: list[str]) -> None:
    assert severities("firmware", firmware=Firmware("7.1.0.7.220", compatible)) == expected


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (DeviceFiles(("/dev/davinci0",), (), (), None), []),
        (DeviceFiles((), (), (), None), ["error"]),
        (DeviceFiles(("/dev/davinci0",), ("/dev/hisi_hdc",), (), "docker"), ["error"]),
        (DeviceFiles(("/dev/davinci0",), (), ("/dev/davinci0",), None), ["error"]),
        (DeviceFiles((), ("/dev/hisi_hdc",), ("/dev/devmm_svm",), None), ["error", "error"]),
    ],
    ids=["good", "no card", "one missing", "closed", "both"],
)
def test_device_files(files: DeviceFiles, expected: list[str]) -> None:
    assert severities("device-files", device_files=files) == expected


@pytest.mark.parametrize(
    ("broken", "expected"),
    [
        ((), []), (("libascendcl.so",), ["error"]), (("libhccl.so",), ["error"]),
        (("libatb.so",), ["error"]), (("libascendcl.so", "libhccl.so"), ["error"]),
        (("libascendcl.so", "libatb.so"), ["error", "error"]),
    ],
)  # fmt: skip
def test_env_cann(broken: tuple[str, ...], expected: list[str]) -> None:
    names = ("libascendcl.so", "libhccl.so", "libatb.so")
    libraries = tuple(Library(n, "cannot open" if n in broken else None) for n in names)
    assert severities("env-cann", libraries=libraries) == expected


def test_env_cann_says_what_to_source() -> None:
    broken = (Library("libascendcl.so", "lost"), Library("libhccl.so", None))
    scripts = {"libascendcl.so": "ascend-toolkit/set_env.sh", "libatb.so": "nnal/atb/set_env.sh"}
    for name, script in scripts.items():
        (finding,) = rule("env-cann").apply(known(libraries=(Library(name, "lost"), broken[1])))
        assert [row.what for row in finding.evidence] == [name]
        assert script in str(finding.actions[0])
        assert str(finding.actions[0]).startswith("install ")
    installed, sourced = Component("9.1.0", "f"), Component("9.1.0", "f", "/x")
    for toolkit, words in ((installed, "in this shell: source"), (sourced, "install it again")):
        (finding,) = rule("env-cann").apply(known(libraries=broken, toolkit=toolkit, nnal=None))
        assert words in str(finding.actions[0])


def test_without_a_container_the_driver_is_missing() -> None:
    for container, words in ((None, "install the driver"), ("docker", "--device /dev/hisi_hdc")):
        files = DeviceFiles(("/dev/davinci0",), ("/dev/hisi_hdc",), (), container)
        (finding,) = rule("device-files").apply(known(device_files=files))
        assert words in str(finding.actions[0])


def test_a_missing_driver_library_is_mounted_not_sourced() -> None:
    lost = "libascend_hal.so: cannot open shared object file: No such file or directory"
    libraries = (Library("libascendcl.so", lost), Library("libatb.so", lost))
    assert severities("env-cann", libraries=libraries) == ["error"]


@pytest.mark.parametrize(
    ("nnal", "expected"), [("9.0.1", ["warning"]), ("9.1.0", []), ("9.1.0.B150", [])]
)
def test_cann_pairing(nnal: str, expected: list[str]) -> None:
    toolkit = Component("9.1.0", "toolkit")
    assert severities("cann-pairing", toolkit=toolkit, nnal=Component(nnal, "atb")) == expected


@pytest.mark.parametrize(
    ("plugin", "toolkit", "expected"),
    [
        ("0.23.0", "9.0.1", ["warning"]), ("0.23.0", "9.1.0", []), ("0.23.0", "9.2.0", []),
        ("0.20.2rc1", "8.5.1", ["warning"]), ("0.20.2rc1", "9.0.0", []),
        ("0.99.0", "8.0.0", []),
    ],
)  # fmt: skip
def test_cann_release(plugin: str, toolkit: str, expected: list[str]) -> None:
    packages = {"vllm-ascend": Package("vllm-ascend", plugin)}
    facts = {"toolkit": Component(toolkit, "toolkit"), "packages": packages}
    assert severities("cann-release", **facts) == expected


@pytest.mark.parametrize(
    ("toolkit", "torch_npu", "expected"),
    [
        ("8.5.1", "2.9.0.post2", ["warning"]), ("9.0.0", "2.9.0.post1", ["warning"]),
        ("9.0.0", "2.9.0.post2", []), ("9.1.0", "2.10.0", []), ("8.5.1", "2.9.0", ["warning"]),
        ("9.0.0", "mine", []),
    ],
)  # fmt: skip
def test_cann_310p(toolkit: str, torch_npu: str, expected: list[str]) -> None:
    packages = {"torch-npu": Package("torch-npu", torch_npu)}
    facts = {"toolkit": Component(toolkit, "toolkit"), "packages": packages}
    assert severities("cann-310p", chip=DUO, **facts) == expected
    assert severities("cann-310p", chip=A2, **facts) == []


def test_triton_310p() -> None:
    for chip, there, expected in (
        (DUO, ("/site/triton",), ["error"]), (DUO, (), []), (A2, ("/site/triton",), []),
        (A5, ("/site/triton",), []),
    ):  # fmt: skip
        assert severities("triton-310p", chip=chip, triton=there) == expected


@pytest.mark.parametrize(
    ("built", "expected"), [("_310P", []), (None, []), ("A2", ["error"]), ("A9", ["error"])]
)
def test_build_for_chip(built: "str | None", expected: list[str]) -> None:
    assert severities("build-for-chip", chip=DUO, ascend=AscendSource((), (), True, built)) == (
        expected
    )


@pytest.mark.parametrize(
    ("torch_npu", "nnal", "expected"),
    [
        ("2.10.0.post4", "9.0.0", ["warning"]), ("2.10.0.post4", "9.1.0", []),
        ("2.10.0.post2", "9.0.0", ["note"]), ("2.10.0.post2", "9.1.0", ["note"]),
        ("2.9.0.post5", "9.1.0", ["note"]), ("2.9.0.post6", "9.1.0", []),
        ("2.7.1.post8", "9.1.0", []), ("2.8.0.post9", "9.1.0", ["note"]),
        ("2.12.0", "9.1.0", []), ("2.12.0", "9.0.0", ["warning"]), ("mine", "9.0.0", []),
    ],
)  # fmt: skip
def test_compressed_masks(torch_npu: str, nnal: str, expected: list[str]) -> None:
    facts = {"nnal": Component(nnal, "atb"), "packages": {"torch-npu": Package("n", torch_npu)}}
    assert severities("compressed-masks", chip=DUO, **facts) == expected
    assert severities("compressed-masks", chip=A2, **facts) == []


def test_custom_ops_not_built() -> None:
    for compiled, expected in ((True, []), (False, ["error"])):
        source = AscendSource((), (), compiled, "A2")
        assert severities("custom-ops-not-built", ascend=source, packages={}) == expected
