# SPDX-License-Identifier: Apache-2.0
"""The tokenizer cannot be made from its files."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="tokenizer",
    title=Text(
        "The tokenizer's files cannot be read by this version", "当前版本无法读取 tokenizer 文件"
    ),
    actions=(
        Text(
            "Try it alone: `AutoTokenizer.from_pretrained(MODEL)`",
            "单独验证：`AutoTokenizer.from_pretrained(MODEL)`",
        ),
        Text(
            "Upgrade tokenizers and transformers as a pair, or save the tokenizer again "
            "with this version",
            "配套升级 tokenizers 和 transformers，或用当前版本重新保存 tokenizer",
        ),
        Text(
            "Compare the checksum of tokenizer.json with the original; MindIE also wants mode 640",
            "核对 tokenizer.json 的校验和；MindIE 还要求文件权限为 640",
        ),
    ),
    patterns=(
        Pattern("not a string", r"TypeError: not a string", Says.WHAT),
        Pattern(
            "sentencepiece",
            r"(Error|Exception): .*(requires? the SentencePiece|sentencepiece.*(not (found"
            r"|installed)|failed))|Converting from SentencePiece",
            Says.WHAT,
        ),
        Pattern(
            "object has no attribute",
            r"AttributeError: ",
            Says.WHAT,
            near=r"tokenization_utils|tokenization_\w+\.py|vllm/tokenizers/"
            r"|transformers_utils/tokenizer",
        ),
        Pattern("expected value at line", near=r"[Tt]okenizer", says=Says.WHAT),
        Pattern("untagged enum", r"did not match any variant of untagged enum"),
        Pattern("tokenizer wrapper", r"Failed to get vocab size from tokenizer wrapper"),
        Pattern(
            "tokenizer class", r"Tokenizer class \S+ does not exist or is not currently imported"
        ),
        Pattern("instantiate the backend tokenizer"),
        Pattern("load tokenizer for", r"Can't load tokenizer for"),
        Pattern("load the tokenizer", r"(fail\w* to|unable to|cannot|can't) load the tokenizer"),
        Pattern("vocabulary from file", r"Unable to load vocabulary from file"),
        Pattern(
            "error:",
            r"^[\w.]*(Value|Type|Key|OS|Runtime)Error:",
            Says.GUESS,
            near=r"/transformers_utils/tokenizer\w*[/.]|/tokenization_\w+\.py",
        ),
        Pattern(
            "tokenizer.json",
            r"tokenizer(_config)?\.json.*(expected value|invalid|corrupt|JSONDecodeError"
            r"|校验|损坏)",
        ),
        Pattern("add_prefix_space", r"Error.*(PyPreTokenizerTypeWrapper|PreTokenizer)", Says.WHAT),
    ),
)
