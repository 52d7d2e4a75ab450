# SPDX-License-Identifier: Apache-2.0
"""This release does not know the quantization method."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Signature

SIGNATURE = Signature(
    id="quant-method-unavailable",
    title=Text("This release does not know the quantization method", "当前版本不支持该量化方法"),
    actions=(
        Text(
            "Look up the first release that has the method and take it as a pair with vLLM",
            "查明最早支持该方法的版本，并与 vLLM 配套升级",
        ),
        Text(
            "Otherwise serve unquantized weights: `bringup convert` decodes the formats it knows",
            "否则使用未量化的权重：`bringup convert` 可以还原它支持的格式",
        ),
    ),
    patterns=(
        Pattern("unknown quantization method"),
        Pattern(
            "quantization is currently not supported in",
            r"(?<!fp8 )quantization is currently not supported in",
        ),
        Pattern(
            "currently, vllm ascend",
            r"Currently, vLLM Ascend (doesn't|does not|don't|only) support",
        ),
        Pattern("invalid choice", r"--quantization\S*: invalid choice"),
        Pattern("no compressed-tensors compatible"),
        Pattern(
            "hardware dose not support", r'hardware do(se|es) not support "?get_min_capability'
        ),
        Pattern(
            "unsupported quant",
            r"(Error|Exception|Unsupported\w*): .*unsupported quant(ization)?[ _]?(method"
            r"|type|scheme|config|algo)?",
        ),
        Pattern(
            "quant",
            r"(Error|Exception): .*quant\w*[ _](method|type|scheme"
            r"|algo\w*)\W.*(not supported|unsupported|is not available|not implemented)",
        ),
        Pattern("keyerror", r"KeyError: '(W\d+A\d+\w*|C8|FAKQuant|FAQuant|INT8|INT4)'"),
        Pattern("only supported on ascend a5"),
    ),
)
