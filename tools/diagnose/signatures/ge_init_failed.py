# SPDX-License-Identifier: Apache-2.0
"""ACL or GE cannot be initialised for a device."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="ge-init-failed",
    title=Text(
        "ACL or GE cannot be initialised when the device is set", "设置设备时 ACL 或 GE 初始化失败"
    ),
    actions=(
        Text(
            "Check that the toolkit has the files of this SoC (`platform_config` of the "
            "chip that `npu-smi info` names)",
            "确认 toolkit 中有本机芯片的文件（与 `npu-smi info` 芯片型号对应的 `platform_config`）",
        ),
        Text(
            "In a container check the driver mounts (/usr/local/Ascend/driver, "
            "/usr/local/dcmi, npu-smi, /dev/davinci*)",
            "容器中检查驱动挂载（/usr/local/Ascend/driver、/usr/local/dcmi、npu-smi、"
            "/dev/davinci*）",
        ),
        Text(
            'Run `python -c "import torch, torch_npu; torch.npu.set_device(0)"` alone',
            '单独运行 `python -c "import torch, torch_npu; torch.npu.set_device(0)"`',
        ),
        Text(
            "Check that TMPDIR, HOME and the working directory are writable",
            "确认 TMPDIR、HOME 和当前工作目录可写",
        ),
    ),
    patterns=(
        Pattern("platform info", r"platform info failed|platform info.*(init|initialize).*fail"),
        Pattern("[platforminfo]", r"\[Init\]\[PlatformInfo\]"),
        Pattern(
            "initialize failed",
            r"GE(Lib::Inner)?Initialize failed|GE initialize failed"
            r"|GELib::\w*Initialize failed",
        ),
        Pattern("tsdopen failed"),
        Pattern("ascend_hal device count", says=Says.WHAT),
        Pattern("aclinit", r"aclInit.*(fail|error code is)", Says.WHAT),
        Pattern("aclsetcompileopt", r"AclSetCompileopt.*error code is", Says.WHAT),
        Pattern("error code is 5000", r"error code is 50000[01]\b", Says.WHAT),
        Pattern(
            "107002",
            r"error (code|no)(:| is)\s*107002\b",
            Says.WHAT,
            near=r"set_?device|GetDevice\b",
        ),
        Pattern("forked subprocess", r"Cannot re-initialize NPU in forked subprocess", Says.WHAT),
        Pattern("init compiler failed", says=Says.WHAT),
        Pattern("setdevice", r"SetDevice\w*.*(error code is|failed|result = )", Says.WHAT),
        # 507033: device set-up; 507008: SoC version; 507899: inside the driver.
        Pattern("5070", r"error (code|no)(:| is)\s*(507033|507008)\b", Says.WHAT),
        Pattern("507899", r"error (code|no)(:| is)\s*507899\b", Says.CODE),
    ),
)
