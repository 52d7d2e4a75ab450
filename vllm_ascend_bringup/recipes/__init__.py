# SPDX-License-Identifier: Apache-2.0
"""Recipes: how to serve an architecture that vLLM does not serve as it is. Data, one TOML each."""
