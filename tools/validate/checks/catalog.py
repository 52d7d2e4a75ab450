# SPDX-License-Identifier: Apache-2.0
"""All checks of a running server, in the order in which they are made."""

from collections.abc import Mapping
from types import MappingProxyType

from vllm_ascend_bringup.tools.validate.checks import (
    burst,
    content,
    counters,
    determinism,
    endpoints,
    likelihood,
    long_context,
    models,
    picture,
    text,
)
from vllm_ascend_bringup.tools.validate.checks.base import Rule

_MODULES = (
    models, text, picture, content, likelihood, endpoints, determinism, burst, long_context,
    counters,
)  # fmt: skip
CHECKS: Mapping[str, Rule] = MappingProxyType({module.RULE.id: module.RULE for module in _MODULES})
