# SPDX-License-Identifier: Apache-2.0
"""What /metrics counts is what was sent, no number is NaN, and requests were not pushed out."""

import math
import re
import time
from collections import defaultdict
from collections.abc import Mapping

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.validate.arguments import has
from vllm_ascend_bringup.tools.validate.checks.base import (
    Outcome,
    Rule,
    Session,
    failed,
    not_applicable,
    passed,
)

_SAMPLE = re.compile(r"^(vllm:\w+)(?:\{.*\})? (\S+)$", re.MULTILINE)
_REQUESTS, _PROMPT, _GENERATED = (
    "vllm:request_success_total", "vllm:prompt_tokens_total", "vllm:generation_tokens_total"
)  # fmt: skip
_DRAFTED, _ACCEPTED = (
    "vllm:spec_decode_num_draft_tokens_total", "vllm:spec_decode_num_accepted_tokens_total"
)  # fmt: skip
SPECULATION = "--speculative-config"
PREEMPTIONS = "vllm:num_preemptions_total"
# Counters follow an answer by a moment.
_PATIENCE_SECONDS = 10.0


def sums(text: str) -> Mapping[str, float]:
    """Of each metric of vLLM, over all its labels, in Prometheus' text format."""
    found: defaultdict[str, float] = defaultdict(float)
    for name, value in _SAMPLE.findall(text):
        found[name] += float(value)
    return found


def run(session: Session) -> Outcome:
    """Waits until the counters agree, for a while."""
    client = session.client
    sent = {_REQUESTS: client.requests, _PROMPT: client.prompt_tokens,
            _GENERATED: client.generated_tokens}  # fmt: skip
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        metrics = sums(client.get("/metrics"))
        if not any(name in metrics for name in sent):
            reason = Text("the server was told not to count (--disable-log-stats)",
                          "服务被设为不统计（--disable-log-stats）")  # fmt: skip
            return not_applicable(reason)
        wrong = [name for name, count in sent.items() if metrics.get(name) != count]
        if not wrong or time.monotonic() > deadline:
            break
        time.sleep(0.25)
    nan = [name for name, value in metrics.items() if math.isnan(value)]
    preemptions = metrics.get(PREEMPTIONS, 0.0)
    said = [
        Text("{name}: {found:.0f}, sent: {sent}", "{name}：{found:.0f}，实际发送 {sent}").format(
            name=name, found=metrics.get(name, 0.0), sent=count
        )
        for name, count in sent.items()
    ]
    said.append(Text("requests pushed out of the KV cache: {count:.0f}",
                     "被挤出 KV cache 的请求：{count:.0f}").format(count=preemptions))  # fmt: skip
    said += [Text("{name} is NaN", "{name} 为 NaN").format(name=name) for name in nan]
    idle = has(session.arguments, SPECULATION) and not metrics.get(_DRAFTED)
    if has(session.arguments, SPECULATION):
        text = Text("tokens drafted: {drafted:.0f}, accepted: {accepted:.0f}",
                    "草稿 token：{drafted:.0f}，接受：{accepted:.0f}")  # fmt: skip
        said.append(text.format(drafted=metrics.get(_DRAFTED, 0.0),
                                accepted=metrics.get(_ACCEPTED, 0.0)))  # fmt: skip
    # As many preemptions as there were requests: each was started twice.
    if wrong or nan or idle or preemptions >= max(1, client.requests):
        return failed("metrics", *said)
    return passed(*said)


RULE = Rule("counters", Text("the metrics agree", "指标与实际一致"), run)
