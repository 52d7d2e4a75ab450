# SPDX-License-Identifier: Apache-2.0
"""What the doctor reads in vllm-ascend's files is there, and its rules say what that code does."""

from pathlib import Path

from ascend_source import MARKS
from packaging.version import Version

from vllm_ascend_bringup.hardware import CHIPS, chip_of
from vllm_ascend_bringup.tools.doctor.facts import Origin, Unknown
from vllm_ascend_bringup.tools.doctor.packages import read_ascend
from vllm_ascend_bringup.tools.doctor.rules import alloc_conf

pytestmark = MARKS


def test_what_a_release_says_of_itself(source: Path) -> None:
    init = str(source / "vllm_ascend" / "__init__.py")
    read = read_ascend((Origin("vllm_ascend", init, init, "/"),))
    assert not isinstance(read, Unknown)
    assert Version(source.name).base_version in read.asks_for
    assert read.flashcomm1 == ("environment", "additional_config")
    assert chip_of(read.device_type or "") is CHIPS["a2"]
    assert not read.compiled  # libraries are not among what is fetched


def test_flashcomm1_asks_for_several_ranks_and_expert_parallelism(source: Path) -> None:
    text = (source / "vllm_ascend" / "platform.py").read_text()
    assert "Flash Comm v1 is only supported when tp_size > 1." in text
    assert "Flash Comm v1 requires enable_expert_parallel=True for MoE models." in text


def test_blocking_launches_are_refused_in_graph_mode(source: Path) -> None:
    text = (source / "vllm_ascend" / "platform.py").read_text()
    assert 'os.environ.get("ASCEND_LAUNCH_BLOCKING", "0") == "1"' in text
    assert "ACL graph is incompatible with ASCEND_LAUNCH_BLOCKING=1." in text


def test_expandable_segments_are_left_off_beside_the_same_two_options(source: Path) -> None:
    text = (source / "vllm_ascend" / "platform.py").read_text()
    for option in alloc_conf._EXCLUDED:
        assert f'"{option}" not in npu_alloc_configs' in text


def test_vllm_version_goes_before_vllms_own(source: Path) -> None:
    text = (source / "vllm_ascend" / "utils.py").read_text()
    assert "if envs_ascend.VLLM_VERSION is not None:" in text
    assert "Version(vllm_version) == Version(target_vllm_version)" in text
    assert "except InvalidVersion:" in text
