# SPDX-License-Identifier: Apache-2.0
"""Implementations of each kernel, fastest first; the reference is last and runs everywhere."""

from types import MappingProxyType

_FP4_DEQUANT = "vllm_ascend_bringup.kernels.fp4_dequant"
_FP8_DEQUANT = "vllm_ascend_bringup.kernels.fp8_dequant"
_INT_DEQUANT = "vllm_ascend_bringup.kernels.int_dequant"
_NZ_LAYOUT = "vllm_ascend_bringup.kernels.nz_layout"
_NZ_MASK = "vllm_ascend_bringup.kernels.nz_mask"
_QK_NORM = "vllm_ascend_bringup.kernels.qk_norm"
_RESHAPE_AND_CACHE = "vllm_ascend_bringup.kernels.reshape_and_cache"

# kernel -> implementation -> "module:attribute". The module also has verify(...) -> (ok, reason).
KERNELS = MappingProxyType(
    {
        "fp4_dequant": MappingProxyType(
            {
                "numba": f"{_FP4_DEQUANT}.numba_kernel:fp4_dequant",
                "reference": f"{_FP4_DEQUANT}.reference:fp4_dequant",
            }
        ),
        "fp8_dequant": MappingProxyType(
            {
                "numba": f"{_FP8_DEQUANT}.numba_kernel:fp8_dequant",
                "reference": f"{_FP8_DEQUANT}.reference:fp8_dequant",
            }
        ),
        "int_dequant": MappingProxyType(
            {
                "numba": f"{_INT_DEQUANT}.numba_kernel:int_dequant",
                "reference": f"{_INT_DEQUANT}.reference:int_dequant",
            }
        ),
        "nz_layout": MappingProxyType({"reference": f"{_NZ_LAYOUT}.reference:to_nz"}),
        "nz_mask": MappingProxyType({"reference": f"{_NZ_MASK}.reference:mask_rows"}),
        "qk_norm": MappingProxyType({"reference": f"{_QK_NORM}.reference:qk_norm"}),
        "reshape_and_cache": MappingProxyType(
            {"reference": f"{_RESHAPE_AND_CACHE}.reference:reshape_and_cache"}
        ),
    }
)
