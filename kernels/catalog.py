# SPDX-License-Identifier: Apache-2.0
"""Implementations of each kernel, fastest first; the reference is last and runs everywhere."""

from types import MappingProxyType

_FLASH_ATTENTION = "vllm_ascend_bringup.kernels.flash_attention"
_FP4_DEQUANT = "vllm_ascend_bringup.kernels.fp4_dequant"
_FP8_DEQUANT = "vllm_ascend_bringup.kernels.fp8_dequant"
_FUSED_INFER = "vllm_ascend_bringup.kernels.fused_infer_attention"
_INT_DEQUANT = "vllm_ascend_bringup.kernels.int_dequant"
_MLA_DECODE = "vllm_ascend_bringup.kernels.mla_decode"
_NZ_LAYOUT = "vllm_ascend_bringup.kernels.nz_layout"
_NZ_MASK = "vllm_ascend_bringup.kernels.nz_mask"
_PAGED_ATTENTION = "vllm_ascend_bringup.kernels.paged_attention"
_QK_NORM = "vllm_ascend_bringup.kernels.qk_norm"
_RESHAPE_AND_CACHE = "vllm_ascend_bringup.kernels.reshape_and_cache"
_SPLITFUSE_ATTENTION = "vllm_ascend_bringup.kernels.splitfuse_attention"

# kernel -> implementation -> "module:attribute". The module also has verify(...) -> (ok, reason).
KERNELS = MappingProxyType(
    {
        "flash_attention": MappingProxyType(
            {"reference": f"{_FLASH_ATTENTION}.reference:flash_attention"}
        ),
        "fp4_dequant": MappingProxyType(
            {
                "numba": f"{_FP4_DEQUANT}.numba_kernel:fp4_dequant",
                "reference": f"{_FP4_DEQUANT}.reference:fp4_dequant",
            }
        ),
        "fp8_dequant": MappingProxyType(
            {
                "numba": f"{_FP8_DEQUANT}.numba_kernel:fp8_dequant",
                "triton": f"{_FP8_DEQUANT}.triton_kernel:fp8_dequant",
                "reference": f"{_FP8_DEQUANT}.reference:fp8_dequant",
            }
        ),
        "fused_infer_attention": MappingProxyType(
            {"reference": f"{_FUSED_INFER}.reference:fused_infer_attention"}
        ),
        "int_dequant": MappingProxyType(
            {
                "numba": f"{_INT_DEQUANT}.numba_kernel:int_dequant",
                "reference": f"{_INT_DEQUANT}.reference:int_dequant",
            }
        ),
        "mla_decode": MappingProxyType({"reference": f"{_MLA_DECODE}.reference:mla_decode"}),
        "nz_layout": MappingProxyType({"reference": f"{_NZ_LAYOUT}.reference:to_nz"}),
        "nz_mask": MappingProxyType(
            {
                "triton": f"{_NZ_MASK}.triton_kernel:mask_rows",
                "reference": f"{_NZ_MASK}.reference:mask_rows",
            }
        ),
        "paged_attention": MappingProxyType(
            {"reference": f"{_PAGED_ATTENTION}.reference:paged_attention"}
        ),
        "qk_norm": MappingProxyType(
            {
                "triton": f"{_QK_NORM}.triton_kernel:qk_norm",
                "reference": f"{_QK_NORM}.reference:qk_norm",
            }
        ),
        "reshape_and_cache": MappingProxyType(
            {"reference": f"{_RESHAPE_AND_CACHE}.reference:reshape_and_cache"}
        ),
        "splitfuse_attention": MappingProxyType(
            {"reference": f"{_SPLITFUSE_ATTENTION}.reference:splitfuse_attention"}
        ),
    }
)
