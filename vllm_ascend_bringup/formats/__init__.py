# SPDX-License-Identifier: Apache-2.0
"""Low-precision checkpoint formats: which there are, and how weights find their scales."""
