# SPDX-License-Identifier: Apache-2.0
"""Rewriting a checkpoint as plain bf16 or fp16: plan, then shard by shard, resumable."""
