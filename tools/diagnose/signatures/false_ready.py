# SPDX-License-Identifier: Apache-2.0
"""Start-up succeeds and the first request kills the engine."""

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.diagnose.base import Pattern, Says, Signature

SIGNATURE = Signature(
    id="false-ready",
    title=Text(
        "The server was ready, and the first request killed the engine",
        "服务启动成功，但首个请求导致引擎退出",
    ),
    actions=(
        Text(
            "Send one real request per modality as the ready check: /v1/models proves nothing",
            "就绪检查要对每种模态各发一个真实请求：/v1/models 返回成功不能说明问题",
        ),
        Text(
            "Read the worker's first error, then repeat once with --enforce-eager",
            "查看 worker 的第一个报错，再用 --enforce-eager 重试一次",
        ),
    ),
    patterns=(
        # Only an engine that had started dies like this; ranking asks what else the log shows.
        Pattern("enginedeaderror", says=Says.ECHO),
        Pattern("output_handler failed", says=Says.ECHO),
        Pattern("encountered a fatal error", r"EngineCore encountered a fatal error", Says.ECHO),
        Pattern(
            "engine loop",
            r"engine loop (is not running|has died|is dead)|background loop (has errored"
            r"|is stopped)",
            Says.ECHO,
        ),
        Pattern("asyncenginedeaderror", says=Says.ECHO),
    ),
)
