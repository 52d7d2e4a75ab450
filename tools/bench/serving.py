# SPDX-License-Identifier: Apache-2.0
"""Tokens per second of the reference platform and of vLLM's plain CPU platform, over HTTP."""

import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from vllm_ascend_bringup.tools.demo import CHECKPOINT
from vllm_ascend_bringup.tools.demo.facts import FACTS
from vllm_ascend_bringup.tools.vllm_server import CPU_ARGUMENTS, CPU_ENVIRONMENT, VllmServer

_REQUESTS, _TOKENS, _ROUNDS = 16, 64, 5


def ratio(platform: str, dtype: str) -> float:
    """Of throughput with requests in parallel; both servers stay up and are asked by turns."""
    with tempfile.TemporaryDirectory(prefix="bringup-bench-") as folder, ExitStack() as stack:
        servers = [
            stack.enter_context(VllmServer(
                str(CHECKPOINT), (*CPU_ARGUMENTS, "--dtype", dtype, "--served-model-name", "m"),
                environment={**CPU_ENVIRONMENT, "VLLM_ASCEND_BRINGUP_PLATFORM": name},
                log=Path(folder, name),
            ))
            for name in ("auto", platform)
        ]  # fmt: skip
        seconds: list[list[float]] = [[], []]
        for round_ in range(_ROUNDS + 1):
            for server, times in zip(servers, seconds, strict=True):
                started = time.perf_counter()
                _answer(server.url)
                if round_:
                    times.append(time.perf_counter() - started)
    plain, ours = map(statistics.median, seconds)
    return plain / ours


def _answer(url: str) -> None:
    from openai import OpenAI

    client = OpenAI(base_url=url, api_key="none", timeout=300)

    def ask(number: int) -> None:
        client.completions.create(
            model="m", prompt=FACTS[number % len(FACTS)].answer * 8, max_tokens=_TOKENS,
            temperature=0, extra_body={"ignore_eos": True},
        )  # fmt: skip

    with ThreadPoolExecutor(_REQUESTS) as pool:
        list(pool.map(ask, range(_REQUESTS)))
