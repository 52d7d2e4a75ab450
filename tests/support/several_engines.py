# SPDX-License-Identifier: Apache-2.0
"""Several small vLLM engines, one after the other in one process: importing vLLM takes longest.

As a program: ``python several_engines.py REQUEST.json ANSWER.json``.
"""

import gc
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine_kit import Generation, allow_amx, generate, run_script


def run_engines(
    engines: Mapping[str, Mapping[str, Any]],
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int = 8,
    environment: Mapping[str, str] | None = None,
) -> dict[str, Generation]:
    """Name -> what the engine with these arguments of ``vllm.LLM`` answered.

    Raises EngineError if one fails.
    """
    request = {"engines": engines, "prompts": prompts, "tokens": tokens}
    answers, log = run_script(Path(__file__), request, environment=environment)
    return {
        name: Generation(answer["tokens"], answer["logprobs"], log)
        for name, answer in answers.items()
    }


def main(ask: str, answer: str) -> None:
    """Run the engines one by one and write what they answered."""
    from vllm.distributed import cleanup_dist_env_and_memory

    request = json.loads(Path(ask).read_text())
    answers = {}
    for name, engine in request["engines"].items():
        print("engine", name, flush=True)
        answers[name] = generate(engine, request["prompts"], request["tokens"])
        gc.collect()
        cleanup_dist_env_and_memory()
    Path(answer).write_text(json.dumps(answers))


if __name__ == "__main__":
    allow_amx()
    main(*sys.argv[1:])
