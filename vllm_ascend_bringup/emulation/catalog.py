# SPDX-License-Identifier: Apache-2.0
"""Operators of torch_npu that compute here, by the names under which torch registers them."""

from types import MappingProxyType

_CACHE = "vllm_ascend_bringup.emulation.cache"
_FLASH = "vllm_ascend_bringup.emulation.flash_attention"
_FORMATS = "vllm_ascend_bringup.emulation.formats"
_FUSED = "vllm_ascend_bringup.emulation.fused_attention"
_FUSION = "vllm_ascend_bringup.emulation.fusion_attention"
_LAYERS = "vllm_ascend_bringup.emulation.layers"
_PAGED = "vllm_ascend_bringup.emulation.paged_attention"

# operator -> "module:function", which takes the arguments of every version's schema.
OPERATORS = MappingProxyType(
    {
        "_npu_flash_attention": f"{_FLASH}:flash_attention",
        "_npu_flash_attention_unpad": f"{_FLASH}:flash_attention_unpad",
        "_npu_flash_attention_unpad_v2": f"{_FLASH}:flash_attention_unpad_v2",
        "_npu_flash_attention_v3": f"{_FLASH}:flash_attention_v3",
        "_npu_paged_attention": f"{_PAGED}:paged_attention",
        "_npu_paged_attention_mla": f"{_PAGED}:paged_attention_mla",
        "_npu_paged_attention_splitfuse": f"{_PAGED}:splitfuse_attention",
        "_npu_paged_attention_splitfuse_v2": f"{_PAGED}:splitfuse_attention_v2",
        "_npu_reshape_and_cache": f"{_CACHE}:reshape_and_cache",
        "empty_with_format": f"{_FORMATS}:empty_with_format",
        "get_npu_format": f"{_FORMATS}:get_npu_format",
        "npu_add_rms_norm": f"{_LAYERS}:add_rms_norm",
        "npu_format_cast": f"{_FORMATS}:format_cast",
        "npu_fused_infer_attention_score": f"{_FUSED}:fused_infer_attention_score",
        "npu_fused_infer_attention_score_v2": f"{_FUSED}:fused_infer_attention_score_v2",
        "npu_fusion_attention": f"{_FUSION}:fusion_attention",
        "npu_rms_norm": f"{_LAYERS}:rms_norm",
        "npu_scatter_pa_kv_cache": f"{_CACHE}:scatter_pa_kv_cache",
        "npu_swiglu": f"{_LAYERS}:swiglu",
        "npu_transpose_batchmatmul": f"{_LAYERS}:transpose_batchmatmul",
    }
)
