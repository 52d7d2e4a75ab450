# SPDX-License-Identifier: Apache-2.0
"""Attention heads over tensor-parallel ranks: vLLM before and after our patches."""
