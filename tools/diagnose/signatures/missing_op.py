# SPDX-License-Identifier: Apache-2.0
"""An operator, its kernel binary or its dtype or format variant is not there."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="missing-op",
    title=Text(
        "An operator, its kernel or its variant for this dtype or format is missing",
        "缺少算子、算子二进制或该数据类型、格式的实现",
    ),
    actions=(
        Text(
            "Check that the kernels package is installed and is that of this SoC and toolkit",
            "确认已安装算子包（kernels），且与本机芯片和 toolkit 版本一致",
        ),
        Text(
            "Look for the symbol in the op library: `nm -D libopapi.so`",
            "在算子库中查找该符号：`nm -D libopapi.so`",
        ),
        Text("Use another dtype or a fallback implementation", "换用其他数据类型，或使用替代实现"),
    ),
    patterns=(
        Pattern("does not support optype"),
        Pattern("get reginfo failed"),
        Pattern(
            "not support",
            r"\b(operator|op|kernel|api|interface|aclnn\w+"
            r"|npu_\w+)\b.{0,60}not support(ed)? (on|in|by|for) (this "
            r"|the )?(current )?(soc|chip|device|platform)",
        ),
        Pattern(
            "opp_kernel", r"opp_kernel package is (not )?install|opp_kernel\S* (not|is missing)"
        ),
        Pattern("binary_info_config.json", r"binary_info_config\.json.*(fail|not)"),
        Pattern("unsupported_operator", r"Unsupported_Operator|\bEZ3002\b"),
        Pattern(".json", r"\[\S+\.json\] is invalid or does not exist"),
        Pattern("ez3003", r"\bEZ3003\b"),
        Pattern("no supported ops kernel"),
        Pattern("not found in this op store", r"not found in this op store"),
        Pattern("cannot find bin", r"Cannot find bin(ary)? (of|for) op"),
        Pattern("dynamic kernel config fail"),
        Pattern("libopapi", r"not in libopapi|libopapi\S*.*not ?found"),
        Pattern(
            "could not run", r"Could not run '(?!_C)\w+::.*with arguments from the '\w+' backend"
        ),
        Pattern("not implemented for '", r"\"\w+\" not implemented for '\w+'"),
        Pattern("not implemented for dt_", r"not implemented for DT_(?!BFLOAT16|BF16|FLOAT8)"),
        Pattern(
            "dtype or format is not supported", r"dtype or format is not supported(?!.*BFLOAT16)"
        ),
        Pattern("dtype support list", r"should be in dtype support list", Says.WHAT),
        Pattern("'_opnamespace' '", r"'_OpNamespace' '(npu|atb|aten)' object has no attribute"),
        Pattern("no such operator", r"No such operator (?!_C)\w+::"),
        Pattern(
            "is not found",
            r"(kernel|op type|optype|operator) \S+ is not found|(kernel|binary) (bin "
            r"|file )?is not found",
            Says.WHAT,
        ),
        Pattern(
            "error:",
            r"^(Runtime|Attribute|NotImplemented)Error: .*\b(aclnn[A-Z]\w+|_?npu_\w+)"
            r".*(not (been )?(support|found|implement)|unsupported|no kernel)",
            Says.GUESS,
        ),
        Pattern("failed to find func by type", says=Says.WHAT),
        Pattern("feature not supported", r"ERR\d+ (PTA|OPS) feature not supported", Says.GUESS),
        Pattern("aclopkernelinit failed", says=Says.WHAT),
        Pattern(
            "is not currently implemented for the",
            r"operator '\S+' is not currently (implemented|supported) (for|on)",
            Says.WHAT,
        ),
        Pattern(
            "561",
            r"(error (code|no)(:| is)|aclnnStatus=|errno\[)\s*561(003|1(0[1245-9]|1\d))\b",
            Says.WHAT,
        ),
    ),
)
