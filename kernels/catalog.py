# SPDX-License-Identifier: Apache-2.0
"""Implementations of each kernel, fastest first; the reference is last and runs everywhere."""

from types import MappingProxyType

_FP8_DEQUANT = "vllm_ascend_bringup.kernels.fp8_dequant"

# kernel -> implementation -> "module:attribute". The module also has verify(...) -> (ok, reason).
KERNELS = MappingProxyType(
    {
        "fp8_dequant": MappingProxyType(
            {
                "numba": f"{_FP8_DEQUANT}.numba_kernel:fp8_dequant",
                "reference": f"{_FP8_DEQUANT}.reference:fp8_dequant",
            }
        ),
    }
)
