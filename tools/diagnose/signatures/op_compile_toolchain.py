# SPDX-License-Identifier: Apache-2.0
"""An operator is compiled on line, and that fails."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="op-compile-toolchain",
    title=Text("On-line compilation of an operator fails", "算子在线编译失败"),
    actions=(
        Text(
            "Install the host's C++ compiler and headers (g++, libstdc++-dev)",
            "安装主机的 C++ 编译器和头文件（g++、libstdc++-dev）",
        ),
        Text(
            "Point TMPDIR at an absolute, existing, writable directory",
            "把 TMPDIR 指向一个存在且可写的绝对路径",
        ),
        Text(
            "Install the Python packages that the compiler imports (attrs, decorator, "
            "sympy, cffi, psutil) and run one operator again",
            "安装编译器依赖的 Python 包（attrs、decorator、sympy、cffi、psutil），"
            "再单独运行一个算子",
        ),
    ),
    patterns=(
        Pattern("failed to compile node"),
        Pattern("op compile failed"),
        Pattern("compile op[", r"Compile op\[.*fail"),
        Pattern("failed to compile graph", says=Says.WHAT),
        Pattern("parse json or compress op", says=Says.WHAT),
        Pattern("e40021", r"\bE40021\b"),
        Pattern("failed to compile op", r"Failed to compile Op\b"),
        Pattern("eb0500", r"\bEB0500\b"),
        Pattern("compile cce error"),
        Pattern(
            "fatal error", r"fatal error: '?[\w./+]+(\.h|\.hpp)?'? (file not found|No such file)"
        ),
        Pattern("e400", r"\bE400(0[2-9]|1\d|2[02-9])\b", Says.WHAT),
        Pattern(
            "no module named",
            r"No module named '?(attr|attrs|decorator|sympy|cffi|scipy|cloudpickle|synr"
            r"|tornado|absl|ml_dtypes)'?(\s|$)",
            near=r"/tbe/|te_fusion|/tvm/|opc_tool|/asc_op",
        ),
        Pattern("mlircompilationerror", says=Says.WHAT),
        Pattern("bishengir", r"bishengir-compile.*(error|fail|unknown)|hivmc?.*error:", Says.WHAT),
        Pattern("ub overflow", says=Says.WHAT),
        Pattern("compilationerror", r"triton\.compiler\.\w*\.?CompilationError", Says.WHAT),
        Pattern("error code is 500002", says=Says.CODE),
    ),
)
