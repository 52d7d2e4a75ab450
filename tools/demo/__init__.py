# SPDX-License-Identifier: Apache-2.0
"""The demo: a tiny checkpoint that answers a few questions, and the facts it knows."""
