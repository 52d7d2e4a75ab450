# SPDX-License-Identifier: Apache-2.0
"""The quantization description is missing or does not cover the weights."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.context import QUANT_DESCRIPTION

SIGNATURE = Signature(
    id="quant-config-missing",
    title=Text(
        "The quantization description is missing, incomplete or not switched on",
        "量化描述缺失、不完整或没有启用",
    ),
    actions=(
        Text(
            "Look for quant_model_description.json beside the weights and compare its keys "
            "with the module names",
            "检查权重目录下的 quant_model_description.json，并对照其中的键与模块名",
        ),
        Text(
            "Pass `--quantization ascend` where the weights are quantized (MindIE: "
            '`"quantize"` in config.json), and leave it out where they are not',
            "权重已量化时加上 `--quantization ascend`（MindIE：在 config.json 中配置 "
            '`"quantize"`），未量化时去掉',
        ),
        Text(
            "If keys are missing, export the weights again with the tool of this release",
            "如果缺少键，用该版本配套的工具重新导出权重",
        ),
    ),
    patterns=(
        # Parameters have fused names (qkv_proj, gate_up_proj); the description lists the parts.
        Pattern("keyerror", r"KeyError: '[\w.]*\.(q|k|v|gate|up)_proj\.weight'"),
        # While the model is built no weight is looked up yet.
        Pattern(
            "keyerror",
            r"KeyError: '[\w.]+\.weight'",
            near=r"\b_?initialize_model\b",
            apart=r"load_weights",
        ),
        Pattern(
            "object is not subscriptable",
            r"'NoneType' object is not subscriptable",
            near=QUANT_DESCRIPTION,
        ),
        Pattern(
            "weights were not initialized from",
            r"not initialized from.*(deq_scale|quant_bias|weight_scale|weight_offset"
            r"|input_scale)",
        ),
        Pattern(
            "quantization method is not specified",
            r"quantization method is not specified in the config",
        ),
        Pattern(
            "keyerror",
            r"KeyError: '[^']*\.(weight_scale\w*|weight_offset|input_scale|input_offset"
            r"|deq_scale|quant_bias|weight_packed|weight_zero_point|qweight|qzeros|scales"
            r"|g_idx|scale|offset|[kv]_scale|\w+_scale|\w+_offset)'",
        ),
        Pattern("keyerror", r"KeyError: '", near=QUANT_DESCRIPTION),
        Pattern(
            "no module or parameter named",
            r"no module or parameter named '[^']*(scale|offset|quant_bias|qweight|qzeros"
            r"|g_idx|weight_packed)",
        ),
        Pattern("quantization config not found"),
        Pattern("cannot find the config file for"),
        Pattern(
            "quant_model_description",
            r"(No such file|not (found|exist)|cannot find|missing).*quant_model_description"
            r"|quant_model_description\S*.*(No such file|not found|not exist|missing"
            r"|No such)",
        ),
        Pattern("available ascend quantizer", r"no available ascend quantizer"),
        Pattern("but not all shards of", r"Detected some but not all shards of"),
        Pattern("linear type not matched", r"linear type not matched"),
        Pattern(
            "does not match the quantization",
            r"quantization method specified in the model config .*does not match",
        ),
        Pattern("forkawarelocal", r"'ForkAwareLocal' object has no attribute", Says.ECHO),
    ),
)
