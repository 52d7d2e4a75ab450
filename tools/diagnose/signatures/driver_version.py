# SPDX-License-Identifier: Apache-2.0
"""Driver, firmware or CANN older than the stack needs."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="driver-version",
    title=Text(
        "Driver, firmware or CANN is too old for what the stack uses",
        "驱动、固件或 CANN 版本过低，不支持当前软件栈使用的功能",
    ),
    actions=(
        Text(
            "Print the versions: `npu-smi info`, the driver's version.info and the toolkit's",
            "查看版本：`npu-smi info`、驱动的 version.info 以及 toolkit 的版本文件",
        ),
        Text(
            "Upgrade driver, firmware and CANN to what the release of vllm-ascend names",
            "把驱动、固件和 CANN 升级到该 vllm-ascend 版本要求的版本",
        ),
        Text(
            "Until then turn off the newer operator or format that the message names",
            "在升级之前，先关闭报错信息中提到的新算子或新格式",
        ),
    ),
    patterns=(
        Pattern(
            "cann version",
            r"(current )?CANN version (do(es)?|is) not support|CANN version is (too )?(low"
            r"|old)|CANN version .*(lower|older|earlier) than",
        ),
        Pattern("version of cann", r"(update|upgrade) the version of CANN"),
        Pattern("upgrade", r"\bupgrade\b.{0,40}\b(driver|firmware|hdk|cann)\b", apart=r"sq cq"),
        Pattern("update", r"\bupdate\b.{0,40}\b(driver|firmware|hdk|cann)\b", apart=r"sq cq"),
        Pattern("driver", r"\bdriver\b.{0,40}\b(does not|do not|not) support"),
        Pattern(
            "driver version",
            r"driver version\W.*(too (low|old)|not match|mismatch|lower than"
            r"|does not support|not support|incompatible)",
        ),
        Pattern(
            "firmware",
            r"firmware version .*(too (low|old)|not match|mismatch|lower than|not support)",
        ),
        Pattern("驱动", r"驱动(程序)?版本.*(过低|过旧|不匹配|不支持|不配套)"),
        Pattern("driver error:", r"reason=driver error:", Says.GUESS),
        Pattern(
            "20700",
            r"(error code is|error code:|errorCode=|runtime result = |ret(Code)?\s*[:=])"
            r"\s*207000\b",
            Says.WHAT,
        ),
    ),
)
