# SPDX-License-Identifier: Apache-2.0
"""A wrong setting of this plugin."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="setting",
    title=Text("A setting of this plugin has a wrong value", "本插件的某项设置取值错误"),
    actions=(
        Text(
            "The message lists what is allowed: correct the VLLM_ASCEND_BRINGUP_* variable "
            "or unset it",
            "报错中列出了允许的取值：改正或取消对应的 VLLM_ASCEND_BRINGUP_* 变量",
        ),
    ),
    patterns=(Pattern("settingserror", r"\bSettingsError: "),),
)
