# SPDX-License-Identifier: Apache-2.0
"""A library finds no room in the static TLS block, as libgomp does on aarch64.

Signals: those words in the failure of ``import vllm`` or of loading one of CANN's libraries; a
preloaded library that is not there any more.
Source: MindIE's FAQ; the cause is glibc's, which fills the block in the order of loading.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Imported, Library

_WORDS = "static TLS block"
_LIBRARY = re.compile(r"(\S+\.so[.\d]*): cannot allocate memory in static TLS block")


def _judge(
    environ: Mapping[str, str],
    imported: Imported | None = None,
    libraries: tuple[Library, ...] | None = None,
) -> Iterator[Judgement]:
    errors = [imported.error if imported else None, *(found.error for found in libraries or ())]
    for text in map(str, errors):
        if _WORDS not in text:
            continue
        match = _LIBRARY.search(text)
        library = Path(match[1]).name if match else "libgomp"
        preloaded = environ.get("LD_PRELOAD", "-")
        yield error(
            Evidence(Text("error", "错误"), text, Text("no error", "没有错误")),
            Evidence("LD_PRELOAD", preloaded, library),
            do=Text(f"export LD_PRELOAD=<path of {library}>:$LD_PRELOAD before the server starts",
                    f"启动服务前执行 export LD_PRELOAD=<{library} 的路径>:$LD_PRELOAD"),
        )  # fmt: skip
        return


RULE = Rule("static-tls", Text("static TLS", "静态 TLS 空间"), _judge)
