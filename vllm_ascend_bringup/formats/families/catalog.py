# SPDX-License-Identifier: Apache-2.0
"""The families of settings this package reads, one line each."""

from vllm_ascend_bringup.formats.families import (
    compressed_tensors,
    fbgemm,
    fp8,
    modelopt,
    mx,
    quark,
)

FAMILIES = {
    "fp8": fp8.read,
    "compressed_tensors": compressed_tensors.read,
    "modelopt": modelopt.read,
    "fbgemm": fbgemm.read,
    "mx": mx.read,
    "quark": quark.read,
}
