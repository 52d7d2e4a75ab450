# SPDX-License-Identifier: Apache-2.0
"""Remote code imports what this transformers no longer has."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="transformers-symbol",
    title=Text(
        "Remote model code imports a symbol that this transformers does not have",
        "模型自带代码导入了当前 transformers 中不存在的符号",
    ),
    actions=(
        Text(
            "Compare the installed transformers with `transformers_version` in config.json "
            "and pin that one",
            "对照 config.json 中的 `transformers_version`，固定安装该版本的 transformers",
        ),
        Text(
            "Better: use vLLM's own implementation, without --trust-remote-code",
            "更好的办法：使用 vLLM 自带的实现，去掉 --trust-remote-code",
        ),
    ),
    patterns=(
        Pattern(
            "cannot import name",
            r"cannot import name '\w+' from '?transformers\b(?!.*unknown location)",
            near=r"transformers_modules|/modeling_\w+\.py|/configuration_\w+\.py"
            r"|/processing_\w+\.py",
        ),
        Pattern(
            "transformers_modules",
            r"transformers_modules.*cannot import name '\w+' from '?transformers\b",
        ),
        Pattern(
            "cannot import name",
            r"cannot import name '\w+' from '?transformers\b(?!.*unknown location)",
            Says.WHAT,
        ),
        Pattern("no module named", r"No module named '?transformers\.\w", Says.WHAT),
        Pattern(
            "error:",
            r"^(Import|ModuleNotFound|Attribute|Type|Name)Error:",
            Says.GUESS,
            near=r"/transformers_modules/",
        ),
        Pattern("were not found in your environment", says=Says.GUESS),
        Pattern(
            "from 'transformers",
            r"AttributeError: module 'transformers[\w.]*' has no attribute",
            Says.CODE,
        ),
    ),
)
