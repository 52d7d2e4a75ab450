# SPDX-License-Identifier: Apache-2.0
"""vllm-ascend's platform under this plugin's name, for users who allowlist only this plugin.

Imported by vLLM only where ``plugin.platform`` named it, which needs vllm-ascend.
"""

from vllm_ascend.platform import NPUPlatform


class BringupNPUPlatform(NPUPlatform):
    """vllm-ascend's platform, unchanged: its behaviour is extended through vLLM's hooks."""
