# SPDX-License-Identifier: Apache-2.0
"""Attention on Ascend: masks, and what an operator is given."""

# Bytes that the rows of one call's mask may take. While they are made, those of the call before are
# still there.
CHUNK_MASK_BYTES = 24 << 20
