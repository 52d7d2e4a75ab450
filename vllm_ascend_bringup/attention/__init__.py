# SPDX-License-Identifier: Apache-2.0
"""Attention on Ascend: masks, and what an operator is given."""
