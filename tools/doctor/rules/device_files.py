# SPDX-License-Identifier: Apache-2.0
"""Device files of the NPUs are missing or closed to this user.

Signals: /dev/davinci0 and so on, and davinci_manager, devmm_svm and hisi_hdc, which every process
needs beside them. A container has only what it was started with.
Source: docker lines of vllm-ascend's docs/source/installation.md.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import DeviceFiles
from vllm_ascend_bringup.tools.doctor.wording import joined

_CARDS = "/dev/davinci*"


def _judge(device_files: DeviceFiles) -> Iterator[Judgement]:
    missing = (() if device_files.cards else (_CARDS,)) + device_files.missing
    if missing:
        yield error(_row(missing, Text("missing", "缺失")), do=_mount(device_files, missing))
    if device_files.closed:
        yield error(_row(device_files.closed, Text("no permission", "没有权限")), do=Text(
            "run as root, or add this user to the group of the files (HwHiAiUser on most "
            "machines); in a container, start it with --device for each of them",
            "请以 root 身份运行，或将当前用户加入这些文件所属的组（通常是 HwHiAiUser）；"
            "在容器中请用 --device 逐一传入",
        ))  # fmt: skip


def _row(files: tuple[str, ...], state: Text) -> Evidence:
    found = Text("{state}: {names}", "{state}：{names}").format(state=state, names=joined(files))
    expected = Text("there, readable and writable", "存在且可读写")
    return Evidence(Text("below /dev", "/dev 下的文件"), found, expected)


def _mount(found: DeviceFiles, missing: tuple[str, ...]) -> Text:
    if found.container is None:
        return Text("install the driver (HDK) on this machine, and load it: npu-smi info",
                    "请在本机安装并加载驱动（HDK），然后执行 npu-smi info 确认")  # fmt: skip
    devices = " ".join(f"--device {file.replace('*', '0')}" for file in missing)
    return Text(
        f"start the container with {devices} (one --device /dev/davinciN for each card)",
        f"启动容器时加上 {devices}（每张卡一个 --device /dev/davinciN）",
    )


RULE = Rule("device-files", Text("device files", "设备文件"), _judge)
