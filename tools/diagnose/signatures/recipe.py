# SPDX-License-Identifier: Apache-2.0
"""A recipe that is malformed or does not fit."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="recipe",
    title=Text(
        "A recipe is malformed or does not fit this checkpoint", "recipe 格式错误或与权重不符"
    ),
    actions=(
        Text(
            "`bringup recipes explain KEY --model MODEL` shows what each rule does",
            "`bringup recipes explain KEY --model MODEL` 会显示每条规则的作用",
        ),
    ),
    patterns=(Pattern("recipeerror", r"\bRecipeError: "),),
)
