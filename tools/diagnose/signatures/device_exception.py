# SPDX-License-Identifier: Apache-2.0
"""The device reports an asynchronous fault."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="device-exception",
    title=Text("The device reports an asynchronous fault", "设备上报异步执行异常"),
    actions=(
        Text(
            "Run again with ASCEND_LAUNCH_BLOCKING=1 and --enforce-eager to find the operator",
            "设置 ASCEND_LAUNCH_BLOCKING=1 和 --enforce-eager 重跑，定位出错的算子",
        ),
        Text(
            "Save the device log (~/ascend/log, `msnpureport`) before the next start",
            "下次启动前保存设备日志（~/ascend/log、`msnpureport`）",
        ),
        Text(
            "Check the card with `npu-smi info -t health`, and shrink the input",
            "用 `npu-smi info -t health` 检查卡的健康状态，并缩小输入规模",
        ),
    ),
    patterns=(
        Pattern("npu warning", r"NPU warning, error code is 5070\d\d", Says.CODE, warns=True),
        Pattern(
            "5070",
            r"(error (code|no)(:| is)\s*|result = |errorCode=|retCode=|error:)\s*5070(0[0-79]"
            r"|[124]\d|3[0-24-9]|5[0-7])\b",
            Says.CODE,
        ),
        Pattern(
            "aicpu",
            r"AICPU (execution|exception|kernel)|aicpu execute failed|aicpu exception",
            Says.CODE,
        ),
        Pattern(
            "aicore",
            r"aicore (exception|execution|kernel execute fail|error)|ai ?core (exception"
            r"|error)",
            Says.CODE,
        ),
        Pattern(
            "vector core",
            r"vector core (exception|execution|error|timeout)|aiv(ec)? (error|exception)",
            Says.CODE,
        ),
        # What torch_npu calls 507053 to 507057, and a device that was stopped.
        Pattern("suspect ", r"Error: SUSPECT (MEM|REMOTE) ERROR", Says.CODE),
        Pattern("hbm multi bit ecc error", says=Says.CODE),
        Pattern("uce error", r"Error: UCE ERROR", Says.CODE),
        Pattern("hccs link error", says=Says.CODE),
        Pattern("force stop", r"Error: FORCE STOP", Says.CODE),
        Pattern("hardware execution error", says=Says.CODE),
        Pattern("mte instruction", r"address of the MTE instruction is out of range", Says.CODE),
        Pattern("fftsplus", r"fftsplus .*(error|exception|timeout)", Says.CODE),
        Pattern("ecc error", r"(HBM|UCE|multi.bit).*ECC error|ECC error.*(HBM|UCE)"),
        Pattern("health status is not ok"),
        Pattern("heart beat", r"device.*heart ?beat (is )?lost|lost heart ?beat", Says.WHAT),
    ),
)
