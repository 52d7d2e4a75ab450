# SPDX-License-Identifier: Apache-2.0
"""A process that has imported vLLM, and forks an engine's ranks from itself: seconds, not half a
minute, for each engine.

As a program: a request per line of stdin (see ``engine_kit.run_engine``), an answer per line of
stdout; it ends with its input.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.tools.engines.child import ChildError
from vllm_ascend_bringup.tools.engines.engine import (
    SMALL,
    generate,
    generate_in_ranks,
    set_up,
    without_plugins,
)

_SECONDS = 300.0


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """In a rank: start its engine and continue the prompts."""
    os.environ.update(request["environment"])
    if not request["plugin"]:
        without_plugins()
    model = Path(request["model"])
    if request["pooling"]:
        return {"embeddings": embed(model, request["prompts"], **request["engine"])}
    made = generate(model, request["prompts"], request["tokens"], **request["engine"])
    logprobs = [[{str(t): p for t, p in step.items()} for step in row] for row in made.logprobs]
    return {"tokens": made.tokens, "logprobs": logprobs}


def embed(model: Path, prompts: Sequence[list[int]], **engine: Any) -> list[list[float]]:
    """A vector for each prompt, by a model that is no generator."""
    from vllm import LLM

    started = LLM(str(model), runner="pooling", **{**SMALL, "skip_tokenizer_init": False, **engine})
    given = [{"prompt_token_ids": prompt} for prompt in prompts]
    return [found.outputs.embedding for found in started.embed(given, use_tqdm=False)]


def main() -> None:
    """Answer until there are no more requests."""
    with os.fdopen(os.dup(1), "w") as replies:
        os.dup2(2, 1)  # vLLM's own output is no answer
        set_up()
        for line in sys.stdin:
            request = json.loads(line)
            try:
                reply = generate_in_ranks(
                    request["tp"], answer, request, log=Path(request["log"]), timeout=_SECONDS
                )
            except ChildError as error:
                reply = {"error": str(error)}
            print(json.dumps(reply), file=replies, flush=True)


if __name__ == "__main__":
    main()
