# SPDX-License-Identifier: Apache-2.0
"""torch._dynamo cannot trace the model, or no NPU backend takes the graph."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="dynamo-unsupported",
    title=Text(
        "torch.compile cannot trace the model or has no backend for the NPU",
        "torch.compile 无法追踪该模型，或没有可用的 NPU 后端",
    ),
    actions=(
        Text(
            "Confirm with --enforce-eager (or TORCHDYNAMO_DISABLE=1)",
            "用 --enforce-eager（或 TORCHDYNAMO_DISABLE=1）确认",
        ),
        Text(
            "Then look at the reported line of the model: it needs a graph break or a fix "
            "in the plugin",
            "再看报错指向的模型代码，需要插入 graph break 或在插件中修复",
        ),
    ),
    patterns=(
        Pattern("torch._dynamo.exc.", r"torch\._dynamo\.exc\.\w+", Says.WHAT),
        Pattern("torch._inductor.exc.", says=Says.WHAT),
        Pattern("device npu not supported"),
        Pattern("to ascendir", r"fail\w* to convert\w* .* to AscendIR"),
        Pattern("ge converter", r"Ge Converter .*not implement"),
        Pattern("cannot compile partial graph", says=Says.WHAT),
        Pattern("backend compiler", r"backend ='?\w*'? raised|BackendCompilerFailed", Says.WHAT),
        Pattern("torch.fx.proxy.traceerror", says=Says.WHAT),
        Pattern("constraintviolationerror", says=Says.WHAT),
        Pattern("userungraphable", says=Says.WHAT),
        Pattern(
            "error:",
            r"^[\w.]*Error:",
            Says.GUESS,
            near=r"/torch/_dynamo/(symbolic_convert|variables)",
        ),
        Pattern(
            "data-dependent",
            r"(GuardOnDataDependentSymNode|Could not guard on data-dependent)",
            Says.WHAT,
        ),
    ),
)
