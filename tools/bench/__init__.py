# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: each figure is a ratio to a named rival, measured in one run (`make bench`)."""
