# SPDX-License-Identifier: Apache-2.0
"""One small vLLM engine in this process, for children forked from one that has imported vLLM.

Half a minute of imports is paid once, and neither state left over nor a crash reaches the next one.
"""

import dataclasses
import functools
import os
import runpy
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.tools.engines.child import in_child, in_children
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

ENVIRONMENT = {
    **CPU_ENVIRONMENT,
    # One thread per rank: the same order of summation in every run, and ranks that do not wait for
    # each other's spinning threads.
    "OMP_NUM_THREADS": "1",
    # The engine in the process itself.
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    # vLLM compiles a function of its sampler even when told to be eager: seconds for each engine.
    "TORCHDYNAMO_DISABLE": "1",
}
# Arguments of ``vllm.LLM`` for a small engine that needs no tokenizer.
SMALL = {
    "enforce_eager": True, "max_model_len": 128, "skip_tokenizer_init": True,
    "gpu_memory_utilization": 0.3, "disable_log_stats": True,
}  # fmt: skip
# Some text models of vLLM import torchvision, which the environment has in a folder of its own.
_SHIM = Path(__file__).parents[1] / "beside_cpu_torch"
_TORCHVISION = Path(sys.prefix) / "multimodal"
_TOP = 5


@dataclasses.dataclass(frozen=True)
class Generation:
    """What an engine answered: per prompt the tokens, per token the log-probabilities by id."""

    tokens: list[list[int]]
    logprobs: list[list[dict[int, float]]]


def set_up() -> None:
    """For this process and its children; before vLLM and torch are imported. Imports vLLM."""
    os.environ.update(ENVIRONMENT)
    if find_spec("torchvision") is None:
        sys.path.append(str(_TORCHVISION))
        runpy.run_path(str(_SHIM / "sitecustomize.py"))
        # vLLM inspects a model's class in a fresh process.
        paths = (str(_SHIM), str(_TORCHVISION), os.environ.get("PYTHONPATH", ""))
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    import vllm.v1.worker.cpu_worker  # noqa: F401 (here, so that no child needs to)


def without_plugins() -> None:
    """Make this process's engine that of stock vLLM."""
    os.environ["VLLM_PLUGINS"] = ""
    allow_amx()


def allow_amx() -> None:
    """What our plugin does in every process (see plugin.py); stock vLLM needs it too, to live."""
    import torch

    torch.cpu._init_amx()


def random_prompts(vocabulary: int, lengths: Iterable[int]) -> list[list[int]]:
    """Prompts of so many token ids, the same in every process."""
    import torch

    generator = torch.Generator().manual_seed(1)
    return [
        torch.randint(3, vocabulary, (length,), generator=generator).tolist() for length in lengths
    ]


def generate_in_ranks(
    ranks: int, function: Callable[..., Any], *arguments: Any, log: Path, timeout: float
) -> Any:
    """What ``function(*arguments)``, which calls ``generate``, returns in the first of the ranks.

    Each rank is an engine in a child of its own, as if torchrun had started them: ranks that vLLM
    starts import everything again. Raises ChildError.
    """
    if ranks == 1:
        return in_child(function, *arguments, log=log, timeout=timeout)
    with tempfile.TemporaryDirectory(prefix="ranks-") as folder:
        calls = [
            functools.partial(_as_rank, rank, ranks, Path(folder), function, arguments)
            for rank in range(ranks)
        ]
        return in_children(calls, log=log, timeout=timeout)[0]


def _as_rank(
    rank: int, ranks: int, folder: Path, function: Callable[..., Any], arguments: Sequence[Any]
) -> Any:
    # Ranks whose file is not called the same do not use vLLM's shared memory, which has them wait
    # in loops: with more ranks than cores that takes ten times as long.
    meeting = folder / f"rank-{rank}"
    meeting.symlink_to(folder / "meeting")
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(ranks), "MEETING": str(meeting)}
    return function(*arguments)


def rank_arguments() -> dict[str, Any]:
    """Arguments of ``vllm.LLM`` in a process that is one of several ranks."""
    if "MEETING" not in os.environ:
        return {}
    from vllm.v1.executor.uniproc_executor import ExecutorWithExternalLauncher

    class Rank(ExecutorWithExternalLauncher):
        def _distributed_args(self) -> tuple[str, int, int]:
            rank = int(os.environ["RANK"])
            return f"file://{os.environ['MEETING']}", rank, rank

    return {
        "tensor_parallel_size": int(os.environ["WORLD_SIZE"]),
        "distributed_executor_backend": Rank,
    }


def generate(
    model: Path, prompts: Sequence[Sequence[int]], tokens: int, **engine: Any
) -> Generation:
    """Greedy continuations by a small engine. ``engine``: other arguments of ``vllm.LLM``."""
    from vllm import LLM, SamplingParams

    arguments: dict[str, Any] = {**SMALL, **engine, **rank_arguments()}
    started = LLM(str(model), **arguments)
    sampling = SamplingParams(
        temperature=0, max_tokens=tokens, logprobs=_TOP, detokenize=False, ignore_eos=True
    )
    given = [{"prompt_token_ids": list(prompt)} for prompt in prompts]
    outputs = [request.outputs[0] for request in started.generate(given, sampling, use_tqdm=False)]
    return Generation(
        [list(output.token_ids) for output in outputs],
        [
            [{token: found.logprob for token, found in step.items()} for step in output.logprobs]
            for output in outputs
        ],
    )
