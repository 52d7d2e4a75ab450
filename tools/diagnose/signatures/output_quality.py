# SPDX-License-Identifier: Apache-2.0
"""The service answers, but with garbage."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="output-quality",
    title=Text("The service answers with garbage", "服务能应答，但输出异常"),
    actions=(
        Text(
            "Ask at temperature 0 with few tokens, and compare with a reference run",
            "用 temperature 0 和较小的 max_tokens 提问，与参考结果对比",
        ),
        Text(
            "Check dtype, chat template and endpoint (/v1/completions or /v1/chat/completions)",
            "检查数据类型、对话模板和接口（/v1/completions 或 /v1/chat/completions）",
        ),
        Text(
            "Once with --enforce-eager, to separate graph faults; look at whether only the "
            "first request is wrong",
            "用 --enforce-eager 试一次以区分图模式问题，并看是否只有首个请求异常",
        ),
    ),
    patterns=(
        Pattern(
            "generated text",
            r"generated text: .{0,60}(([!?])\2{11,}|(\b\w+\b\W+)\3{9,})",
            Says.WHAT,
        ),
        Pattern(
            '"content":',
            r'"content":\s*"[^"]*(([^\s\w.=*#_~-])\2{11,}|\\ufffd{2,}|\ufffd{3,}'
            r"|(\b\w+\b\W+)\3{9,})",
            Says.WHAT,
        ),
        Pattern(
            '"text":',
            r'"text":\s*"[^"]*(([^\s\w.=*#_~-])\2{11,}|\ufffd{3,}|(\b\w+\b\W+)\3{9,})',
            Says.WHAT,
        ),
        Pattern("乱码", says=Says.WHAT),
        Pattern("garbled", r"garbled|gibberish", Says.WHAT),
    ),
)
