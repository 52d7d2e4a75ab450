# SPDX-License-Identifier: Apache-2.0
"""The KV cache cannot hold one request of the configured length."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="max-model-len",
    title=Text("The configured context length does not fit", "配置的上下文长度放不下"),
    actions=(
        Text(
            "Set --max-model-len to the estimate that the message prints, or lower",
            "把 --max-model-len 设为报错中给出的估计值或更小",
        ),
        Text(
            "Or raise --gpu-memory-utilization, or use more cards",
            "或者调大 --gpu-memory-utilization，或使用更多卡",
        ),
    ),
    patterns=(
        Pattern("to serve at least one request"),
        Pattern("is larger than the available kv cache memory"),
        Pattern("estimated maximum model length"),
        Pattern("greater than the derived max_model_len"),
        Pattern(
            "max seq len",
            r"model's max seq len \(\d+\) is larger than the maximum number of tokens",
        ),
        Pattern("maxseqlen", r"maxSeqLen.*(larger|greater|exceed|大于|超过)", Says.WHAT),
    ),
)
