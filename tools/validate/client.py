# SPDX-License-Identifier: Apache-2.0
"""Requests to an OpenAI-compatible server, counted; nothing beyond the standard library."""

import http.client
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from vllm_ascend_bringup.tools.vllm_server import DIRECT

# For every request whose answer is compared with another one.
GREEDY: Mapping[str, Any] = {"temperature": 0, "seed": 0}
# Log-probabilities of what was chosen and of what came next to it, by token id.
LOGPROBS: Mapping[str, Any] = {"return_tokens_as_token_ids": True, "return_token_ids": True}


class RefusedError(Exception):
    """An answer that is an HTTP error. ``status``; ``text``: what the server says about it."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(status, text)
        self.status, self.text = status, text

    def __str__(self) -> str:
        return f"HTTP {self.status}: {self.text}"


class UnreachableError(Exception):
    """No answer: nothing listens, the connection broke, or it took too long."""


@dataclass(frozen=True)
class Generation:
    """One answer. Per generated token: its id, log-probability, and the likeliest ones by name.

    ``text``: what a reader sees, including what a reasoning parser set apart.
    """

    text: str
    finish: str
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    likeliest: tuple[Mapping[str, float], ...]
    prompt_logprobs: tuple[float, ...]
    prompt_tokens: int
    tokens: int


class Client:
    """``url``: the server's, without /v1. ``seconds``: how long an answer may take."""

    def __init__(self, url: str, seconds: float, api_key: str | None = None) -> None:
        self._url, self._seconds = url.rstrip("/"), seconds
        self._headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._lock = threading.Lock()
        self.model = ""
        self.requests = self.prompt_tokens = self.generated_tokens = 0

    def get(self, path: str) -> str:
        """The body. Raises RefusedError, UnreachableError."""
        return self._open(urllib.request.Request(self._url + path, headers=self._headers))

    def chat(self, content: Any, max_tokens: int, **more: Any) -> Generation:
        """One user message through /v1/chat/completions."""
        body = {"messages": [{"role": "user", "content": content}], "max_tokens": max_tokens}
        answer = self._post("/v1/chat/completions", {**body, **more})
        choice = answer["choices"][0]
        message = choice["message"]
        reasoning = message.get("reasoning") or message.get("reasoning_content") or ""
        steps = (choice.get("logprobs") or {}).get("content") or ()
        return _generation(
            answer, choice, text=reasoning + (message.get("content") or ""),
            logprobs=[step["logprob"] for step in steps],
            likeliest=[
                {other["token"]: other["logprob"] for other in step["top_logprobs"]}
                for step in steps
            ],
        )  # fmt: skip

    def complete(self, prompt: str | Sequence[int], max_tokens: int, **more: Any) -> Generation:
        """A text, or token ids, continued by /v1/completions."""
        prompt = prompt if isinstance(prompt, str) else list(prompt)
        body = {"prompt": prompt, "max_tokens": max_tokens, **more}
        answer = self._post("/v1/completions", body)
        choice = answer["choices"][0]
        logprobs = choice.get("logprobs") or {}
        return _generation(
            answer, choice, text=choice["text"], logprobs=logprobs.get("token_logprobs") or (),
            likeliest=logprobs.get("top_logprobs") or (),
        )  # fmt: skip

    def complete_all(
        self, prompts: Sequence[str | Sequence[int]], max_tokens: int, **more: Any
    ) -> list[Generation]:
        """All of them at once, in the order of the prompts. Raises what the first failure raises.

        Whoever interrupts it does not wait for the answers.
        """
        pool = ThreadPoolExecutor(len(prompts))
        try:
            tasks = [pool.submit(self.complete, p, max_tokens, **more) for p in prompts]
            return [task.result() for task in tasks]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)

    def _post(self, path: str, body: Mapping[str, Any]) -> Any:
        answer = json.loads(
            self._open(
                urllib.request.Request(
                    self._url + path, json.dumps({"model": self.model, **body}).encode(),
                    {"Content-Type": "application/json", **self._headers},
                )
            )
        )  # fmt: skip
        usage = answer.get("usage") or {}
        with self._lock:
            self.requests += 1
            self.prompt_tokens += usage.get("prompt_tokens", 0)
            self.generated_tokens += usage.get("completion_tokens", 0)
        return answer

    def _open(self, request: urllib.request.Request) -> str:
        try:
            with DIRECT.open(request, timeout=self._seconds) as reply:
                text: str = reply.read().decode()
                return text
        except urllib.error.HTTPError as error:
            raise RefusedError(error.code, _message(error.read())) from None
        except (OSError, http.client.HTTPException) as error:
            raise UnreachableError(str(error) or type(error).__name__) from None


def _generation(
    answer: Any, choice: Any, *, text: str, logprobs: Sequence[float],
    likeliest: Sequence[Mapping[str, float]],
) -> Generation:  # fmt: skip
    usage = answer.get("usage") or {}
    prompt_logprobs = choice.get("prompt_logprobs") or answer.get("prompt_logprobs") or ()
    return Generation(
        text=text,
        finish=str(choice.get("finish_reason")),
        prompt_ids=tuple(choice.get("prompt_token_ids") or answer.get("prompt_token_ids") or ()),
        ids=tuple(choice.get("token_ids") or ()),
        logprobs=tuple(logprobs),
        likeliest=tuple(likeliest),
        # Each step has the token that is there, first, and perhaps likelier ones; the first token
        # has no probability.
        prompt_logprobs=tuple(next(iter(s.values()))["logprob"] for s in prompt_logprobs if s),
        prompt_tokens=usage.get("prompt_tokens", 0),
        tokens=usage.get("completion_tokens", 0),
    )


def _message(body: bytes) -> str:
    """What an error says, whichever of the usual forms it has."""
    text = body.decode(errors="replace")
    try:
        content = json.loads(text)
        inner = content.get("error", content)
        return str(inner.get("message", text) if isinstance(inner, dict) else inner)
    except (ValueError, AttributeError):
        return text[:500]
