# SPDX-License-Identifier: Apache-2.0
"""The attention mask of a long context on 310P."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="oom-310p-mask",
    title=Text(
        "The attention mask of a long context does not fit on 310P",
        "310P 上长上下文的注意力掩码超出显存",
    ),
    actions=(
        Text(
            "Set --max-model-len explicitly, 16384 or less to begin with: the mask grows "
            "with its square",
            "显式设置 --max-model-len，先用 16384 或更小的值：掩码大小随其平方增长",
        ),
        Text(
            "The plugin's masks for 310P need one block of rows at a time: `bringup "
            "patches` shows whether they are in force",
            "本插件在 310P 上按行块生成掩码：用 `bringup patches` 确认补丁已生效",
        ),
    ),
    patterns=(
        Pattern(
            "out of memory",
            r"\bout of memory",
            near=r"_?310p?\w*[/.]\S*mask|AttentionMaskBuilder310|attention_mask\w*310",
        ),
    ),
)
