# SPDX-License-Identifier: Apache-2.0
"""Libraries of CANN or NNAL do not load: vLLM finds no platform, or torch_npu fails to import.

Signals: each is loaded in a process of its own. Not found usually means that set_env.sh was not
sourced in this shell; a missing libascend_hal.so is the driver's, which containers have to mount.
Source: vllm-ascend's docs/source/faqs.md, on a device type that cannot be inferred and on libatb.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Component, Library
from vllm_ascend_bringup.tools.doctor.wording import LOADS

_ATB = "libatb.so"
_DRIVER = "libascend_hal.so"
_IN_TURN = Text(
    "then try, in this order: npu-smi info, import torch, import torch_npu, import vllm",
    "然后依次尝试：npu-smi info、import torch、import torch_npu、import vllm",
)


def _judge(
    libraries: tuple[Library, ...],
    toolkit: Component | None = None,
    nnal: Component | None = None,
) -> Iterator[Judgement]:
    broken = [library for library in libraries if library.error]
    if any(_DRIVER in str(library.error) for library in broken):
        action = Text(
            "mount the driver: -v /usr/local/Ascend/driver/lib64/:/usr/local/Ascend/driver/lib64/ "
            "-v /usr/local/dcmi:/usr/local/dcmi",
            "请挂载驱动：-v /usr/local/Ascend/driver/lib64/:/usr/local/Ascend/driver/lib64/ "
            "-v /usr/local/dcmi:/usr/local/dcmi",
        )
        yield error(*map(_evidence, broken), do=(action, _IN_TURN))
        return
    cann = [library for library in broken if library.name != _ATB]
    if cann:
        script = "/usr/local/Ascend/ascend-toolkit/set_env.sh"
        yield error(*map(_evidence, cann), do=(_remedy("CANN toolkit", script, toolkit), _IN_TURN))
    if len(broken) > len(cann):
        atb = (library for library in broken if library.name == _ATB)
        script = "/usr/local/Ascend/nnal/atb/set_env.sh"
        yield error(*map(_evidence, atb), do=(_remedy("NNAL", script, nnal), _IN_TURN))


def _evidence(library: Library) -> Evidence:
    return Evidence(library.name, library.error or LOADS, LOADS)


def _remedy(name: str, script: str, found: Component | None) -> Text:
    if found is None:
        return Text(
            f"install {name}, then: source {script}", f"安装 {name}，然后执行 source {script}"
        )
    if found.sourced is None:
        return Text(
            f"{name} {found.version} is installed; in this shell: source {script}",
            f"{name} {found.version} 已安装；请在当前 shell 中执行 source {script}",
        )
    return Text(
        f"{name} {found.version} is sourced ({found.sourced}) and still does not load: install it "
        "again",
        f"{name} {found.version} 的环境变量已设置（{found.sourced}），但仍无法加载：请重新安装",
    )


RULE = Rule("env-cann", Text("libraries of CANN and NNAL", "CANN 和 NNAL 动态库"), _judge)
