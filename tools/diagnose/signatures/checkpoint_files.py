# SPDX-License-Identifier: Apache-2.0
"""Files of the checkpoint are missing or damaged."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="checkpoint-files",
    title=Text("Files of the checkpoint are missing or damaged", "权重目录缺少文件或文件损坏"),
    actions=(
        Text(
            "Compare the folder with the index, checksums with the origin, and download "
            "what differs again",
            "对照索引检查目录，核对校验和，重新下载不一致的文件",
        ),
        Text(
            "A git-lfs pointer is a text file of some 130 bytes: pull the real one",
            "git-lfs 指针是约 130 字节的文本文件，需要拉取真正的文件",
        ),
    ),
    patterns=(
        Pattern("checkpointerror", r"\bCheckpointError: "),
        Pattern(
            "safetensor",
            r"SafetensorError: |(Invalid|Incomplete)Header|MetadataIncompleteBuffer"
            r"|HeaderTooLarge",
        ),
        Pattern("find any model weights", r"Cannot find any model weights with"),
        Pattern("invalid repository id", r"Invalid repository ID or local directory"),
        Pattern("does not appear to have a file named"),
        Pattern(
            "no such file",
            r"No such file or directory: '?[^' ]*(\.safetensors|config\.json"
            r"|tokenizer\.json|\.index\.json)",
        ),
    ),
)
