# SPDX-License-Identifier: Apache-2.0
"""An operator rejects a shape, a rank or a head size."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

# torch's own words: several causes share them, but in the plugin's code it is a shape's contract.
_TORCH = (
    (
        "must match",
        r"size of tensor a \(\d+\) must match the size of tensor b"
        r"|expanded size of the tensor .* must match"
        r"|Sizes of tensors must match except in dimension",
    ),
    ("shape mismatch", r"shape mismatch: .*(cannot be|could not be) broadcast"),
    ("of the mask", r"shape of the mask \[.*\] at index \d+ does not match"),
    ("split_sizes", r"split_with_sizes expects split_sizes to sum exactly"),
    ("invalid for input of size", r"shape '\[.*\]' is invalid for input of size"),
    ("dimension out of range", r"Dimension out of range \(expected"),
    ("is out of bounds", r"index \S+ is out of bounds for dimension"),
)

SIGNATURE = Signature(
    id="op-shape-contract",
    title=Text(
        "An operator rejects a shape, rank or head size", "算子不接受当前的形状、维度或 head size"
    ),
    actions=(
        Text(
            "Read the limit that the message names and compare with head_dim, heads per "
            "rank and mask shape",
            "查看报错给出的限制，与 head_dim、每个 rank 的头数和掩码形状对照",
        ),
        Text(
            "Try another tensor-parallel size or attention backend", "换一个张量并行度或注意力后端"
        ),
    ),
    patterns=(
        Pattern("checkinputshape", r"FUNC:Check\w*Shape\w*"),
        Pattern("k-axis of the two inputs"),
        Pattern("ez1001", r"\bEZ1001\b", Says.WHAT),
        Pattern(
            "e89999",
            r"\bE89999\W.*(must|should|only support|invalid|not support|not equal|mismatch)",
            Says.WHAT,
        ),
        Pattern(
            "ez9999",
            r"\bEZ9999\W.*(must (be|equal)|should be|only supports?|is invalid|not equal"
            r"|mismatch|exceed)",
            Says.WHAT,
        ),
        Pattern(
            "tiling",
            r"(do tiling failed|tiling (process )?.*failed|Tiling\w* failed"
            r"|execute tiling function)",
            Says.WHAT,
            apart=r"MoeDistribute",
        ),
        Pattern("head size", r"Head size \d+ is not supported"),
        Pattern(
            "head_size",
            r"(head_size|head_dim|headDim|head dim)\b.*(not supported|only support"
            r"|should be|must be)",
            Says.WHAT,
        ),
        Pattern("shapes cannot be multiplied", says=Says.WHAT),
        Pattern("infershape", r"infershape fail", Says.CODE),
        Pattern("infer shape", r"infer shape fail", Says.CODE),
        Pattern(
            "561", r"(error (code|no)(:| is)|aclnnStatus=|errno\[)\s*561(00[0-2]|103)\b", Says.CODE
        ),
        Pattern(
            "16100", r"(error (code|no)(:| is)|aclnnStatus=|errno\[)\s*16100[1-3]\b", Says.CODE
        ),
        *(
            Pattern(anchor, regex, says, near=near)
            for anchor, regex in _TORCH
            for says, near in ((Says.WHAT, r"/vllm_ascend/|/torch_npu/"), (Says.CODE, ""))
        ),
        Pattern(
            "error:",
            r"^(Runtime|Value)Error: .*\b(aclnn[A-Z]\w+|_?npu_\w+)"
            r"(?!.*(not (been )?(support|found|implement)|unsupported|no kernel))",
            Says.GUESS,
        ),
        Pattern(
            "error:",
            r"^(Runtime|Value)Error: .*\b(should|must) be (smaller|less|greater|larger|equal"
            r"|divisible|a multiple|contiguous|\d)",
            Says.GUESS,
            near=r"/vllm_ascend/|/torch_npu/|/torch/_ops\.py",
        ),
    ),
)
