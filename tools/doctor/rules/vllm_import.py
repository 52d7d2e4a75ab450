# SPDX-License-Identifier: Apache-2.0
"""``import vllm`` fails.

Signals: the last line of its traceback, or the signal that killed the process that tried it.
Source: none is needed: ``vllm serve`` does the same first.
"""

from collections.abc import Iterator

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import Evidence, Judgement, Rule, error
from vllm_ascend_bringup.tools.doctor.facts import Imported


def _judge(imported: Imported, python: str) -> Iterator[Judgement]:
    if imported.error is None:
        return
    what = Text("import vllm, last line", "import vllm 的最后一行")
    expected = Text("no error", "没有错误")
    yield error(Evidence(what, imported.error, expected), do=Text(
        f"{python} -c 'import vllm' 2>&1 | bringup diagnose - reads the whole traceback",
        f"执行 {python} -c 'import vllm' 2>&1 | bringup diagnose - 分析完整的 traceback",
    ))  # fmt: skip


RULE = Rule("vllm-import", Text("import of vLLM", "导入 vLLM"), _judge)
