# SPDX-License-Identifier: Apache-2.0
"""python and pip are of different versions, so MindIE's modules are not found."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="python-path",
    title=Text(
        "MindIE's Python modules are not on this interpreter's path",
        "当前解释器找不到 MindIE 的 Python 模块",
    ),
    actions=(
        Text(
            "Compare `python -V` with `pip -V`; both must be the version that MindIE was built for",
            "比较 `python -V` 和 `pip -V`，二者都应是 MindIE 配套的版本",
        ),
        Text(
            "Put that version first in PATH and LD_LIBRARY_PATH",
            "把该版本放到 PATH 和 LD_LIBRARY_PATH 的最前面",
        ),
    ),
    patterns=(
        Pattern(
            "atb_llm",
            r"(No module named|cannot import|import).*atb_llm|atb_llm.*(cannot|无法"
            r"|fail).*import",
        ),
        Pattern("mindie_llm", r"No module named '?(mindie_llm|mindie\b)"),
    ),
)
