# SPDX-License-Identifier: Apache-2.0
"""All patches, each in a file of its name beside this one."""

from collections.abc import Mapping
from types import MappingProxyType

from vllm_ascend_bringup.patching import Patch

_OURS = "vllm_ascend_bringup.patches"
_MODELS = "vllm.model_executor.models"

PATCHES: Mapping[str, Patch] = MappingProxyType(
    {
        patch.name: patch
        for patch in (
            Patch(
                name="olmoe",
                target=f"{_MODELS}.olmoe:OlmoeAttention",
                replacement=f"{_OURS}.olmoe:attention",
                why="with more ranks than KV heads it gathers K of all ranks, replicas included, "
                "and normalizes it with a weight of another width: the first request fails",
                upstream="https://github.com/vllm-project/vllm/blob/v0.32.0/vllm/model_executor/"
                "models/olmoe.py#L190",
                versions=">=0.27.1,<=0.32.0",
                until="OlmoeAttention normalizes K over distinct heads",
                fingerprints=frozenset({"fe5876f4e70e6b3b"}),
            ),
        )
    }
)
