# SPDX-License-Identifier: Apache-2.0
"""Conformance sweep: every architecture that vLLM and transformers share (`make conformance`)."""
