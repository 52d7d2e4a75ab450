# SPDX-License-Identifier: Apache-2.0
"""Greedy answers of a ``vllm serve`` over HTTP, and servers that start side by side."""

import json
import re
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

from vllm_ascend_bringup.tools.vllm_server import VllmServer

MODEL = "m"  # what the servers are told to call it


def complete(server: VllmServer, prompt: Sequence[int], tokens: int, **more: Any) -> Any:
    """The first choice of /v1/completions, with ``token_ids``; goes on past the end of a text."""
    asked = {
        "model": MODEL, "prompt": list(prompt), "temperature": 0, "max_tokens": tokens,
        "ignore_eos": True, "return_token_ids": True, **more,
    }  # fmt: skip
    request = urllib.request.Request(
        server.url + "/completions", json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)["choices"][0]


def continue_all(
    server: VllmServer, prompts: Sequence[Sequence[int]], tokens: int, at_once: int
) -> list[list[int]]:
    """Token ids after each prompt, so many requests in flight."""
    with ThreadPoolExecutor(at_once) as pool:
        found = pool.map(
            lambda prompt: complete(server, prompt, tokens, detokenize=False)["token_ids"], prompts
        )
        return list(found)


def metric(server: VllmServer, name: str) -> float:
    """The sum of one of its counters over all labels."""
    with urllib.request.urlopen(server.url.removesuffix("/v1") + "/metrics", timeout=120) as reply:
        text = reply.read().decode()
    values = re.findall(rf"^{re.escape(name)}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    assert values, name
    return sum(map(float, values))


@contextmanager
def all_serving(servers: Sequence[VllmServer]) -> Iterator[None]:
    """Start them together, which takes two cores little longer than one of them; then stop all."""
    with ExitStack() as stack, ThreadPoolExecutor(len(servers)) as pool:
        list(pool.map(stack.enter_context, servers))
        yield
