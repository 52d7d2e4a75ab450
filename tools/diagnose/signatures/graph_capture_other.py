# SPDX-License-Identifier: Apache-2.0
"""Another failure while a stream is captured."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="graph-capture-other",
    title=Text(
        "Graph capture fails for a reason other than streams", "图捕获失败，但不是 stream 资源问题"
    ),
    actions=(
        Text(
            "Find the operation that copies to the host or synchronises (.item(), "
            ".tolist(), .cpu()) and take it out of the graph",
            "找到把数据拷回主机或做同步的操作（.item()、.tolist()、.cpu()），移出图",
        ),
        Text(
            "Unset ASCEND_LAUNCH_BLOCKING: it synchronises every operator",
            "取消 ASCEND_LAUNCH_BLOCKING：它会让每个算子都同步",
        ),
        Text(
            "--enforce-eager to confirm; HCCL_OP_EXPANSION_MODE=AIV and fewer sizes where "
            "only the end of the capture fails (507903)",
            "用 --enforce-eager 确认；若只在捕获结束时失败（507903），设置 "
            "HCCL_OP_EXPANSION_MODE=AIV 并减少档位",
        ),
    ),
    patterns=(
        Pattern("at an inappropriate time", r"graph capturing detected at an inappropriate time"),
        Pattern("capture_status", r"ACL_MODEL_RI_CAPTURE_STATUS\w*.*ASSERT FAILED", Says.WHAT),
        Pattern(
            "graph capture",
            r"(cannot|not allowed|not permitted|fail\w*|error).* during (\w+ )?graph capture",
        ),
        Pattern("captured-stream", r"synchronize captured-stream"),
        Pattern("stream is captured"),
        Pattern(
            "capture mode does not support", r"current capture mode does not support this operation"
        ),
        Pattern(
            "stream is capturing",
            r"operation not permitted when stream is capturing|stream is capturing",
        ),
        Pattern(
            "ascend_launch_blocking=1",
            r"(incompatible|not (support|compatible)).*ASCEND_LAUNCH_BLOCKING=1"
            r"|ASCEND_LAUNCH_BLOCKING=1.*(incompatible|not support)",
        ),
        Pattern(
            "1070",
            r"(error (code|no)(:| is)|result = |errorCode=|retCode=)\s*1070(2[2-9]|3\d)\b",
            Says.WHAT,
        ),
        Pattern("during capture", r"(Error|fail\w*).*during capture", Says.WHAT),
        # The end of a capture fails after anything that went wrong inside it.
        Pattern("507903", says=Says.CODE),
        Pattern("capture sequence", r"invalidated the stream capture sequence", Says.CODE),
        Pattern(
            "error:",
            r"^\w*(Runtime|Value|Assertion)Error:",
            Says.GUESS,
            near=r"in (capture_model|_capture_\w+|capture_graph)\b",
        ),
        Pattern("aclmdlricapture", r"AclmdlRICapture\w+.*error code", Says.CODE),
    ),
)
