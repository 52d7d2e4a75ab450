# SPDX-License-Identifier: Apache-2.0
"""Our plugin beside vllm-ascend's, and our platform against the one it extends."""

import inspect
import os
import subprocess
import sys

import pytest
from ascend_runtime import MARKS

from vllm_ascend_bringup import emulation
from vllm_ascend_bringup.hardware import CHIPS, Chip

pytestmark = MARKS

# What our platform has in another way than vllm-ascend's.
OVERRIDDEN: set[str] = set()
# Every class has its own.
_OF_A_CLASS = {"__module__", "__doc__", "__firstlineno__", "__static_attributes__"}

WITHOUT_AN_OPERATOR = "import torch_npu; del torch_npu._npu_paged_attention_splitfuse\n"
LACKS = "torch_npu 2.10.0.post4 lacks _npu_paged_attention_splitfuse, needed on Ascend 310P."


def run(code: str, plugins: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "VLLM_PLUGINS": plugins},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_our_platform_is_vllm_ascends_but_for_what_it_overrides() -> None:
    from vllm_ascend.platform import NPUPlatform

    from vllm_ascend_bringup.npu_platform import BringupNPUPlatform

    missing = object()
    different = {
        name
        for name in {*dir(NPUPlatform), *dir(BringupNPUPlatform)}
        if inspect.getattr_static(NPUPlatform, name, missing)
        is not inspect.getattr_static(BringupNPUPlatform, name, missing)
    }
    assert different - _OF_A_CLASS == OVERRIDDEN


@pytest.mark.parametrize("chip", CHIPS.values(), ids=list(CHIPS))
def test_vllm_ascend_tells_chips_apart_as_we_do(
    chip: Chip, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vllm_ascend import utils

    npu = emulation.install(chip=chip.id).npu
    built_for = utils.AscendDeviceType[chip.device_type]
    monkeypatch.setattr(utils, "_ascend_device_type", built_for)
    utils.check_ascend_device_type()
    for number in chip.socs:
        monkeypatch.setattr(npu, "get_soc_version", lambda number=number: number)
        utils.check_ascend_device_type()
    for number in (chip.socs.start - 1, chip.socs.stop):
        monkeypatch.setattr(npu, "get_soc_version", lambda number=number: number)
        with pytest.raises((AssertionError, RuntimeError)):
            utils.check_ascend_device_type()


@pytest.mark.parametrize(
    ("plugins", "platform"),
    [
        ("ascend", "vllm_ascend.platform.NPUPlatform"),
        ("ascend,ascend_bringup", "vllm_ascend.platform.NPUPlatform"),
        ("ascend_bringup", "vllm_ascend_bringup.npu_platform.BringupNPUPlatform"),
    ],
)
def test_which_platform_vllm_takes(plugins: str, platform: str) -> None:
    code = """
from vllm.platforms import current_platform
print(type(current_platform).__module__ + "." + type(current_platform).__name__)
"""
    done = run(code, plugins)
    assert done.stdout.splitlines()[-1:] == [platform], done.stderr


@pytest.mark.parametrize("plugins", ["ascend,ascend_bringup", "ascend_bringup"])
def test_the_plugin_registers_beside_vllm_ascend(plugins: str) -> None:
    code = """
from vllm.plugins import load_general_plugins
load_general_plugins()
import vllm_ascend.ops
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
from vllm_ascend.ops.layernorm import AscendRMSNorm
assert "ascend_dequant" in QUANTIZATION_METHODS
print(AscendRMSNorm.__module__)
"""
    done = run(code, plugins)
    assert done.stdout.splitlines()[-1:] == ["vllm_ascend_bringup.patches.ascend_norm"], done.stderr


@pytest.mark.parametrize(
    "code",
    [
        "from vllm_ascend_bringup.plugin import register; register()",
        "import sys; sys.argv = ['bringup', 'demo']\n"
        "from vllm_ascend_bringup.tools.cli import main; main()",
    ],
    ids=["plugin", "bringup demo"],
)
def test_an_operator_that_is_lacking_stops_it(code: str) -> None:
    done = run(WITHOUT_AN_OPERATOR + code, "ascend")
    assert done.returncode == (3 if "cli" in code else 1)
    assert LACKS in done.stderr.splitlines()[-1]
