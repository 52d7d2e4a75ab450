# SPDX-License-Identifier: Apache-2.0
"""Small vLLM engines, one after the other, for the sweeps."""
