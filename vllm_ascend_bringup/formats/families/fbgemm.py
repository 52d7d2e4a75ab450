# SPDX-License-Identifier: Apache-2.0
"""``quant_method: fbgemm_fp8`` (Meta's Llama-3.1-405B-FP8 and Llama-4).

Sources: vLLM, layers/quantization/fbgemm_fp8.py; transformers, integrations/fbgemm_fp8.py.
"""

from vllm_ascend_bringup.formats.base import Scheme
from vllm_ascend_bringup.formats.families.base import (
    LeftAlone,
    SchemeTable,
    Settings,
    method,
    pattern,
)

_EXPERTS = pattern(r".*experts\.(gate_up_proj|down_proj)$")


def read(settings: Settings, config: Settings) -> SchemeTable | LeftAlone | None:
    """None unless the method is fbgemm_fp8."""
    if method(settings) != "fbgemm-fp8":
        return None
    experts = ((_EXPERTS, Scheme(("column_fp8",))),)
    return SchemeTable("fbgemm_fp8", (Scheme(("channel_fp8",)),), patterns=experts)
