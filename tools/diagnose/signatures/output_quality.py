# SPDX-License-Identifier: Apache-2.0
"""The service answers, but with garbage."""

import re
from collections.abc import Callable

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

# The same sign or word over and over, or bytes that are no characters.
_STUCK = r"(([^\s\w.=*#_~-])\2{15,}|\ufffd{3,}|(\b\w+\b\W+)\3{9,})"
# Alphabets that an answer in one or two languages does not mix.
_SCRIPTS = tuple(
    re.compile(f"[{letters}]")
    for letters in (
        "A-Za-z",
        "\u0400-\u04ff",  # Cyrillic
        "\u0590-\u05ff",  # Hebrew
        "\u0600-\u06ff",  # Arabic
        "\u0900-\u0dff",  # of India
        "\u0e00-\u0eff",  # Thai, Lao
        "\u10a0-\u10ff",  # Georgian
        "\u3040-\u30ff\u4e00-\u9fff",  # Japanese, Chinese
        "\uac00-\ud7af",  # Korean
    )
)


def _mixes_scripts(at_least: int) -> Callable[[re.Match[str]], bool]:
    def mixes(message: re.Match[str]) -> bool:
        found = sum(script.search(message.group()) is not None for script in _SCRIPTS)
        return found >= at_least

    return mixes


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
        *(
            Pattern(anchor, rf"{anchor}.{{0,2000}}{_STUCK}", Says.WHAT)
            for anchor in ("content=", "reasoning_content", "output:", "response:", "输出", "回答")
        ),
        Pattern("generated text", r"generated text\W.*", Says.WHAT, when=_mixes_scripts(3)),
        # Translations mix three.
        Pattern('"content":', r'"content":.*', Says.WHAT, when=_mixes_scripts(4)),
        Pattern("content=", r"content=.*", Says.WHAT, when=_mixes_scripts(4)),
        Pattern("!!!!!!!!!!!!!!!!", says=Says.GUESS),
        Pattern("乱码", says=Says.WHAT),
        Pattern("胡言乱语", says=Says.WHAT),
        Pattern("garbled", says=Says.WHAT),
        Pattern("gibberish", says=Says.WHAT),
        Pattern(
            "nonsense",
            r"(output|answer|respon[ds]|generat|reply|text)\w*\W.{0,40}nonsense",
            Says.WHAT,
        ),
    ),
)
