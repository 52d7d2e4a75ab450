# SPDX-License-Identifier: Apache-2.0
"""Whole machines: the good ones without a finding, and each bad one with what is wrong with it."""

from pathlib import Path

import pytest
from doctor_kit import MACHINES, Recorded, by_id, evidence

from vllm_ascend_bringup.hardware import CHIPS
from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.doctor import judge
from vllm_ascend_bringup.tools.doctor.facts import Firmware, Request

CHIP_OF = {"a2": CHIPS["a2"], "a3": CHIPS["a3"], "310p": CHIPS["310p"]}
COUNT = {"a2": 8, "a3": 16, "310p": 4}


@pytest.fixture(params=MACHINES)
def good(request: pytest.FixtureRequest, tmp_path: Path) -> Recorded:
    return Recorded(request.param, tmp_path)


def serving(ranks: int = 4) -> Request:
    return Request(str(CHECKPOINT), tp=ranks)


@pytest.mark.parametrize("name", MACHINES)
def test_a_good_machine_has_no_findings_and_everything_is_checked(
    name: str, tmp_path: Path
) -> None:
    facts = Recorded(name, tmp_path).facts(serving())
    report = judge(facts)
    assert report.findings == ()
    assert report.unchecked == ()
    assert report.exit_code == 0
    assert facts.chip is CHIP_OF[name]
    assert facts.npus is not None
    assert len(facts.npus) == COUNT[name]
    assert facts.npu_processes == ()


def test_what_npu_smi_says_of_the_chips(tmp_path: Path) -> None:
    facts = {name: Recorded(name, tmp_path / name).facts(Request()) for name in MACHINES}
    a2, a3, duo = (facts[name].npus or () for name in MACHINES)
    assert (a2[7].card, a2[7].chip, a2[7].name, a2[7].health) == (7, 0, "910B3", "OK")
    assert (a2[7].used_mib, a2[7].memory_mib) == (3412, 65536)
    assert (a3[3].card, a3[3].chip, a3[3].name) == (1, 1, "Ascend910")
    assert (a3[3].used_mib, a3[3].memory_mib) == (2893, 65536)
    assert [(npu.card, npu.chip) for npu in duo] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert (duo[1].used_mib, duo[1].memory_mib) == (1429, 43693)
    firmware = [facts[name].firmware for name in MACHINES]
    assert firmware == [Firmware(v, "OK") for v in ("7.7.0.6.236", "7.8.0.5.216", "7.7.0.6.236")]
    driver = facts["a3"].driver
    assert driver is not None
    assert (driver.version, driver.file) == ("25.5.1", "/usr/local/Ascend/driver/version.info")


def test_a_container_without_devices(good: Recorded) -> None:
    good.remove("dev/davinci*")
    good.remove("dev/devmm_svm")
    good.write(".dockerenv", "")
    (good.bin / "npu-smi").unlink()
    report = judge(good.facts(serving()))
    assert by_id(report.findings) == {"device-files": "error"}
    action = str(report.findings[0].actions[0])
    assert "--device /dev/davinci0 --device /dev/davinci_manager --device /dev/devmm_svm" in action
    assert "hisi_hdc" not in action
    assert report.exit_code == 12
    unchecked = {entry.id for entry in report.unchecked}
    assert {"npu-smi", "device-unsupported", "firmware", "triton-310p"} <= unchecked
    assert not {"driver-min", "env-cann", "pairing"} & unchecked  # files and packages are there


def test_nnal_is_missing(good: Recorded) -> None:
    good.remove("usr/local/Ascend/nnal")
    del good.environ["ATB_HOME_PATH"]
    lost = "libatb.so: cannot open shared object file: No such file or directory"
    good.command("python", (good.bin / "python").read_text().replace(
        "exec sed", f"case \"$*\" in *libatb*) echo '{lost}'; exit 1;; esac\nexec sed"
    ))  # fmt: skip
    report = judge(good.facts(serving()))
    assert by_id(report.findings) == {"env-cann": "error"}
    assert lost in evidence(report.findings)
    assert "install NNAL" in str(report.findings[0].actions[0])
    assert {"cann-pairing", "compressed-masks"} == {entry.id for entry in report.unchecked}


def test_nnal_is_installed_but_not_sourced(good: Recorded) -> None:
    del good.environ["ATB_HOME_PATH"]
    good.command("python", (good.bin / "python").read_text().replace(
        "exec sed", 'case "$*" in *libatb*) echo lost; exit 1;; esac\nexec sed'
    ))  # fmt: skip
    (finding,) = judge(good.facts(serving())).findings
    assert "NNAL 9.1.0 is installed" in str(finding.actions[0])
    assert "source /usr/local/Ascend/nnal/atb/set_env.sh" in str(finding.actions[0])


def test_a_library_that_kills_its_process(good: Recorded) -> None:
    good.command("python", (good.bin / "python").read_text().replace(
        "exec sed", 'case "$*" in *libhccl*) kill -SEGV $$;; esac\nexec sed'
    ))  # fmt: skip
    report = judge(good.facts(serving()))
    assert by_id(report.findings) == {"env-cann": "error"}
    assert "libhccl.so: killed by signal 11" in evidence(report.findings)


def test_the_driver_is_too_old(good: Recorded) -> None:
    good.write("usr/local/Ascend/driver/version.info", "Version=23.0.6\n")
    assert by_id(judge(good.facts(serving())).findings) == {"driver-min": "error"}


def test_without_its_file_the_driver_is_what_npu_smi_says(good: Recorded) -> None:
    good.remove("usr/local/Ascend/driver")
    output = (good.commands / "npu-smi info.txt").read_text()
    version = output.split("Version: ")[1].split()[0]
    good.says("npu-smi info", output.replace(version, "24.1.rc1"))
    facts = good.facts(serving())
    assert facts.driver is not None
    assert (facts.driver.version, facts.driver.file) == ("24.1.rc1", "npu-smi info")
    assert by_id(judge(facts).findings) == {"driver-min": "warning"}


def test_triton_on_a_310p_also_as_a_leftover(tmp_path: Path) -> None:
    duo = Recorded("310p", tmp_path)
    (duo.site / "triton" / "backends").mkdir(parents=True)
    report = judge(duo.facts(serving()))
    assert by_id(report.findings) == {"triton-310p": "error"}
    assert str(duo.site / "triton") in evidence(report.findings)


def test_a_mismatched_pair(good: Recorded) -> None:
    name = "python import_vllm.py vllm vllm_ascend vllm_ascend_bringup"
    output = (good.commands / f"{name}.txt").read_text()
    good.says(name, output.replace('"version": "0.23.0"', '"version": "0.22.1"'))
    report = judge(good.facts(serving()))
    assert by_id(report.findings) == {"pairing": "error"}
    assert "vllm: 0.22.1 / 0.23.0, for vllm-ascend 0.23.0" in evidence(report.findings)


def test_torch_was_replaced(good: Recorded) -> None:
    good.packages["torch"]["version"] = "2.11.0"
    good.packages["torch-npu"]["version"] = "2.9.0"
    good.packages["transformers"]["version"] = "5.5.3"
    report = judge(good.facts(serving()))
    expected = {"requirements": "error", "torch-npu-overwritten": "warning"}
    if good.device_type == "_310P":  # 2.9.0 is below its guide's, and has no compressed masks
        expected |= {"cann-310p": "warning", "compressed-masks": "note"}
    assert by_id(report.findings) == expected
    text = evidence(report.findings)
    assert "torch: 2.11.0 / ==2.10.0" in text
    assert "transformers: 5.5.3 / ==5.5.4" in text


def test_a_chip_that_is_not_supported(tmp_path: Path) -> None:
    a2 = Recorded("a2", tmp_path)
    output = (a2.commands / "npu-smi info.txt").read_text()
    a2.says("npu-smi info", output.replace("910B3 ", "310B1 "))
    report = judge(a2.facts(serving()))
    assert by_id(report.findings) == {"device-unsupported": "error"}
    assert "triton-310p" in {entry.id for entry in report.unchecked}


def test_a_build_for_another_chip(tmp_path: Path) -> None:
    a3 = Recorded("a3", tmp_path)
    a3.device_type = "A2"
    report = judge(a3.facts(serving()))
    assert by_id(report.findings) == {"build-for-chip": "error"}
    assert "Atlas A2 / Atlas A3" in evidence(report.findings)


def test_npu_smi_hangs(good: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vllm_ascend_bringup.tools.doctor.npu_smi.NPU_SMI_SECONDS", 0.5)
    good.command("npu-smi", f"#!/bin/sh\nsleep 1234 &\necho $$ $! > {good.root}/pids\nsleep 1234\n")
    report = judge(good.facts(serving()))
    for pid in (good.root / "pids").read_text().split():
        state = Path(f"/proc/{pid}/stat")  # what nobody waited for is left as a zombie
        assert not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"
    assert by_id(report.findings) == {"npu-smi": "error"}
    assert report.exit_code == 12
