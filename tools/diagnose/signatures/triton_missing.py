# SPDX-License-Identifier: Apache-2.0
"""Triton is absent or shadowed where a module needs it."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="triton-missing",
    title=Text(
        "Triton (or triton-ascend) is absent or shadowed",
        "缺少 Triton（或 triton-ascend），或者它被遮住了",
    ),
    actions=(
        Text(
            "Install the triton-ascend build that the vllm-ascend release names, and no "
            "other triton beside it",
            "安装该 vllm-ascend 版本指定的 triton-ascend，不要同时安装其他 triton",
        ),
        Text(
            "On 310P remove triton instead and choose a path of the model that does without it",
            "310P 上则应卸载 triton，并选择不依赖它的模型实现",
        ),
    ),
    patterns=(
        Pattern("no module named", r"No module named '?triton\b"),
        Pattern("cannot import name", r"cannot import name '\w+' from '?triton\b"),
        Pattern("module 'triton", r"module 'triton[\w.]*' has no attribute"),
        Pattern("has_triton is false"),
        Pattern("working triton installation"),
        Pattern("active drivers", r"0 active drivers \(\[\]\)"),
        Pattern("placeholder", r"'?Triton(Language)?Placeholder'?.*has no attribute"),
        Pattern("name 'triton' is not defined"),
        Pattern(
            "'function' object is not subscriptable", near=r"triton|_kernel\w*\[", says=Says.WHAT
        ),
    ),
)
