# SPDX-License-Identifier: Apache-2.0
"""Triton on a chip it has no backend for."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature
from vllm_ascend_bringup.tools.diagnose.context import ON_310P

SIGNATURE = Signature(
    id="triton-on-310p",
    title=Text(
        "Triton is used on 310P, which it does not support",
        "310P 不支持 Triton，但当前环境在使用它",
    ),
    actions=(
        Text(
            "Uninstall triton and triton-ascend and delete what stays of them in site-packages",
            "卸载 triton 和 triton-ascend，并删除 site-packages 中的残留目录",
        ),
        Text(
            "Start again: the plugin then takes the path without Triton",
            "重新启动，插件会改走不依赖 Triton 的路径",
        ),
    ),
    patterns=(
        Pattern("310p", r"(bishengir|Cannot find option|--target).*Ascend310P"),
        Pattern("310p", r"triton.*(310P|Ascend310)|(310P|Ascend310).*triton"),
        Pattern(
            "triton",
            r"(RuntimeError|CompilationError|CompileError|AssertionError|ImportError"
            r"|ModuleNotFoundError).*triton|triton\.\w*Error",
            near=ON_310P,
        ),
    ),
)
