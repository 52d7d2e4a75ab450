# SPDX-License-Identifier: Apache-2.0
"""An engine of two ranks under vLLM's Ray executor, on a Ray cluster of this machine's own.

As a program: ``python ray_engine.py REQUEST.json ANSWER.json``; the cluster ends with it.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from engine_kit import processes_in


def attention_classes(worker: Any) -> list[str]:
    """In a rank: the classes that its layers attend with."""
    layers = worker.model_runner.compilation_config.static_forward_context.values()
    return sorted({type(layer.impl).__name__ for layer in layers if hasattr(layer, "impl")})


def end_the_rest() -> None:
    """Some of Ray's own take their time, or stay: its workers are nobody's children."""
    here, deadline = Path.cwd(), time.monotonic() + 10
    while processes_in(here) and time.monotonic() < deadline:
        time.sleep(0.1)
    for left in processes_in(here):
        with contextlib.suppress(ProcessLookupError):
            os.kill(left, signal.SIGKILL)


def main(asked: Path, answered: Path) -> None:
    """Continue the prompts; say what the ranks' attention is."""
    import ray

    request = json.loads(asked.read_text())
    # What a node of Ascend machines offers: Ray finds none here by itself.
    ray.init(num_cpus=4, resources={"NPU": 2}, include_dashboard=False)
    try:
        from vllm import LLM, SamplingParams

        engine = LLM(
            request["model"], dtype="bfloat16", tensor_parallel_size=2,
            distributed_executor_backend="ray", enforce_eager=True, max_model_len=128,
            skip_tokenizer_init=True, gpu_memory_utilization=0.3,
        )  # fmt: skip
        sampling = SamplingParams(
            temperature=0, max_tokens=request["tokens"], detokenize=False, ignore_eos=True
        )
        given = [{"prompt_token_ids": prompt} for prompt in request["prompts"]]
        outputs = engine.generate(given, sampling, use_tqdm=False)
        answer = {
            "tokens": [list(output.outputs[0].token_ids) for output in outputs],
            "attention": engine.collective_rpc(attention_classes),
        }
    finally:
        ray.shutdown()
        end_the_rest()
    answered.write_text(json.dumps(answer))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
