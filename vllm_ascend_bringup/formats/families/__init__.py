# SPDX-License-Identifier: Apache-2.0
"""Families of exporters: each module reads one dialect of quantization settings."""
