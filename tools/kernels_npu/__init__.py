# SPDX-License-Identifier: Apache-2.0
"""Our Triton kernels through Ascend's own compiler, without an NPU."""
