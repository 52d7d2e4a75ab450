# SPDX-License-Identifier: Apache-2.0
"""interpolate on a memory format that the NPU does not take, under dynamo."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="dynamo-interpolate",
    title=Text(
        "interpolate fails under torch.compile on a vision model",
        "视觉模型的 interpolate 在 torch.compile 下失败",
    ),
    actions=(
        Text(
            "Set TORCHDYNAMO_DISABLE=1, then try one text and one image request again",
            "设置 TORCHDYNAMO_DISABLE=1，再各发一个文本请求和图片请求",
        ),
        Text(
            "Record it as a fallback: the fix belongs into the model's code",
            "把它记录为回退方案：真正的修复应在模型代码中",
        ),
    ),
    patterns=(
        Pattern(
            "contiguous memory format",
            r"contiguous operator only supported contiguous memory format",
        ),
        Pattern("interpolate", r"torch\._dynamo\.exc\.\w+.*interpolate"),
    ),
)
