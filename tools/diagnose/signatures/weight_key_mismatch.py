# SPDX-License-Identifier: Apache-2.0
"""A checkpoint name that no parameter has, or a parameter that no name fills."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature
from vllm_ascend_bringup.tools.diagnose.context import QUANT_DESCRIPTION

SIGNATURE = Signature(
    id="weight-key-mismatch",
    title=Text(
        "Checkpoint names and model parameters do not match", "权重文件中的名称与模型参数不匹配"
    ),
    actions=(
        Text(
            "Compare checkpoint keys with parameter names: `bringup audit MODEL` lists "
            "both leftovers",
            "对照权重名称与参数名称：`bringup audit MODEL` 会列出两边多余的部分",
        ),
        Text(
            "Look at prefixes, packed modules, and layers that were quantized although "
            "they should not be",
            "检查前缀、融合模块，以及不应量化却被量化的层",
        ),
        Text(
            "Add the mapping to a recipe and try it with all shards",
            "把映射写进 recipe，并用全部分片验证",
        ),
    ),
    patterns=(
        Pattern(
            "keyerror",
            r"KeyError: '(?!.*(scale|offset|quant_bias|qweight|qzeros|g_idx|zero_point"
            r"|weight_packed)\w*')\w+\.[\w.]+'",
            near=r"load_weights|weight_loader|params_dict|\b_load_\w+",
            apart=QUANT_DESCRIPTION,
        ),
        Pattern(
            "keyerror",
            r"KeyError: '(?!.*(scale|offset|quant_bias|qweight|qzeros|g_idx|zero_point"
            r"|weight_packed)\w*')([\w.]*layers\.\d+[\w.]*(?<!attn)|[\w.]+\.(weight|bias))'",
            Says.WHAT,
            apart=QUANT_DESCRIPTION,
        ),
        Pattern(
            "no module or parameter named",
            r"no module or parameter named '(?!.*(scale|offset|quant_bias|qweight|qzeros"
            r"|g_idx|weight_packed))",
        ),
        Pattern(
            "weights were not initialized from",
            r"weights were not initialized from(?!.*(deq_scale|quant_bias|weight_scale"
            r"|weight_offset|input_scale))",
        ),
        Pattern("keyerror", r"^KeyError:", Says.GUESS, near=r"\bload_weights\b"),
        Pattern("key(s) in state_dict", r"(Missing|Unexpected) key\(s\) in state_dict"),
        Pattern("not found in params_dict", apart=r"WARNING"),
        Pattern("attempted to load nested weight"),
        Pattern("does not exist", r"weight [\w.]+ does not exist"),
        Pattern(
            "loaderror", r"\bLoadError: (parameters not filled|.*tensors that no parameter took)"
        ),
        Pattern("tensors that no parameter took"),
        Pattern("parameters not filled:"),
    ),
)
