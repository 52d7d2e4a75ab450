# SPDX-License-Identifier: Apache-2.0
"""Files of the model cannot be read."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="model-perms",
    title=Text(
        "Files of the model or the service cannot be read", "模型文件或服务配置文件没有读取权限"
    ),
    actions=(
        Text(
            "MindIE wants directory, weights and config.json with mode 640 and your own user",
            "MindIE 要求目录、权重和 config.json 的权限为 640，且属主为当前用户",
        ),
    ),
    patterns=(
        Pattern(
            "permission denied",
            r"Permission denied: '?[^' ]*(\.json|\.safetensors|\.bin|\.model|tokenizer"
            r"|/models?/)",
        ),
        Pattern(
            "permission",
            r"(check|invalid|wrong).*(file|directory|path) permission"
            r"|permission .*(should be|must be|not allowed|is not correct)",
        ),
        Pattern(
            "权限",
            r"(文件|目录|权重|配置).{0,20}权限.{0,20}(不正确|不足|错误|过大|不符合)"
            r"|没有.{0,6}权限",
        ),
    ),
)
