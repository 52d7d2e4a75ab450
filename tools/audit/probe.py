# SPDX-License-Identifier: Apache-2.0
"""Build vLLM's class for a checkpoint on the meta device and load headers into it.

A program of its own (``python -m vllm_ascend_bringup.tools.audit.probe REQUEST.json ANSWER.json``),
because vLLM leaves state behind. One process stands for rank 0 of any TP size: its group of one
says that it has so many members, which is all that building and loading ask of it.
"""

import json
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.recipes.rules import idle_rules
from vllm_ascend_bringup.tools.audit.templates import template
from vllm_ascend_bringup.tools.audit.watching import MetaWatch

# Header dtypes of tensors handed on as they are; others do not occur beside decoded weights.
_DTYPES = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I64": "int64",
    "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool",
    "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu",
}  # fmt: skip
Names = list[tuple[str, torch.Tensor]]


def probe(
    model: str, tp: int, tensors: Mapping[str, tuple[str | None, list[int]]]
) -> dict[str, Any]:
    """``tensors``: name -> header dtype, or None if decoded, and shape (see ``loaded_tensors``).

    Returns what ``tools/audit/report.py`` judges. Raises whatever vLLM raises for this model.
    """
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import EngineArgs
    from vllm.model_executor.model_loader.utils import initialize_model
    from vllm.utils.torch_utils import set_default_torch_dtype

    config = EngineArgs(
        model=model, tensor_parallel_size=tp, distributed_executor_backend="mp",
        skip_tokenizer_init=True, enforce_eager=True,
    ).create_engine_config()  # fmt: skip
    dtype = config.model_config.dtype
    with set_current_vllm_config(config), tempfile.TemporaryDirectory() as folder:
        _pretend_ranks(tp, Path(folder))
        with set_default_torch_dtype(dtype), torch.device("meta"):
            built = initialize_model(vllm_config=config)
        stored = [
            (name, torch.empty(shape, dtype=_dtype(kind, dtype), device="meta"))
            for name, (kind, shape) in tensors.items()
        ]
        return _load(built, config.model_config, stored)


def _dtype(kind: str | None, decoded: torch.dtype) -> torch.dtype:
    found = decoded if kind is None else getattr(torch, _DTYPES[kind])
    assert isinstance(found, torch.dtype)
    return found


def _pretend_ranks(tp: int, folder: Path) -> None:
    from vllm.distributed import parallel_state

    parallel_state.init_distributed_environment(1, 0, f"file://{folder}/store", 0, "gloo")
    parallel_state.initialize_model_parallel(1)
    parallel_state.get_tp_group().world_size = tp


def _load(model: Any, model_config: Any, stored: Names) -> dict[str, Any]:
    from vllm_ascend_bringup.loader import left_out
    from vllm_ascend_bringup.recipe_hooks import recipe_of, renamed

    parameters = dict(model.named_parameters())
    watch = MetaWatch(parameters)
    recipe = recipe_of(model_config.hf_config)
    names = [name for name, _ in stored]
    origin: list[str] = []
    named: Names = []
    warnings: list[str] = []
    if recipe is None:
        origin, named = names, stored
    else:
        warnings = idle_rules(recipe.rule, names)
        current = [""]

        def tracked() -> Iterator[tuple[str, torch.Tensor]]:
            for current[0], tensor in stored:
                yield current[0], tensor

        for new in renamed(tracked(), recipe, model_config.hf_config):
            origin.append(current[0])
            named.append(new)
    refused = _load_all(model, watch, named)
    unread = [(at, name) for at, (name, _) in enumerate(named) if name not in watch.taken]
    first = {id(parameter): name for name, parameter in parameters.items()}
    ties = {
        name: first[id(parameter)]
        for name, parameter in model.named_parameters(remove_duplicate=False)
        if name not in parameters
    }
    return {
        "class": f"{type(model).__module__}:{type(model).__name__}",
        "recipe": recipe.source if recipe else None,
        "warnings": warnings,
        "dtype": str(model_config.dtype)[6:],
        "parameters": {
            name: {"shape": list(p.shape), "written": watch.written[name],
                   "excused": bool(recipe and recipe.excuses_missing(name))}
            for name, p in parameters.items()
        },
        "names": [[origin[at], name, list(t.shape)] for at, (name, t) in enumerate(named)],
        "refused": refused,
        "left_out": [name for _, name in unread if left_out(name, model, model_config)
                     or (recipe and recipe.excuses_unused(name))],
        "read": watch.read,
        "taken": sorted(watch.taken),
        "casts": watch.casts,
        "ties": ties,
        "pieces": _pieces(model, parameters),
    }  # fmt: skip


def _load_all(model: Any, watch: MetaWatch, named: Names) -> dict[str, str]:
    """Load, going on behind each tensor that stops the class; returns those with the error.

    A tensor of the same name but for numbers would stop it again, and is passed over.
    """
    refused: dict[str, str] = {}
    hopeless: set[str] = set()
    start = 0
    while start < len(named):
        rest = ((n, t) for n, t in named[start:] if template(n) not in hopeless)
        watch.current = ""
        try:
            with watch:
                model.load_weights(watch.stream(rest))
            break
        except Exception as error:  # whatever a class raises: that is what the report is about
            if not watch.current:
                raise
            text = str(error).splitlines()[0] if str(error) else ""
            refused[watch.current] = f"{type(error).__name__}: {text}"[:300]
            hopeless.add(template(watch.current))
            start = 1 + next(at for at, (n, _) in enumerate(named) if n == watch.current)
    for name, _ in named:
        if template(name) in hopeless and name not in watch.taken:
            refused.setdefault(name, "")
    return refused


def _pieces(model: Any, parameters: Mapping[str, torch.Tensor]) -> dict[str, dict[str, Any]]:
    """Parameter -> the names under which the class takes it from a checkpoint, with full shapes.

    Full at TP=1 only; a parameter that is not fused is its own single piece.
    """
    modules, packed = dict(model.named_modules()), getattr(model, "packed_modules_mapping", {})
    experts = _expert_pieces(model)
    made: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters.items():
        path, _, leaf = name.rpartition(".")
        parent, _, fused = path.rpartition(".")
        sizes = _row_sizes(modules.get(path))
        into = packed.get(fused, [])
        shape = list(parameter.shape)
        if path in experts:
            made[name] = dict(experts[path](leaf, shape))
        elif sizes and len(sizes) == len(into):
            made[name] = {
                f"{parent}.{piece}.{leaf}": [rows, *shape[1:]]
                for piece, rows in zip(into, sizes, strict=True)
            }
        else:
            vocabulary = getattr(modules.get(path), "org_vocab_size", None)
            made[name] = {name: [vocabulary, *shape[1:]] if vocabulary else shape}
    return made


def _row_sizes(module: Any) -> list[int]:
    from vllm.model_executor.layers.linear import MergedColumnParallelLinear, QKVParallelLinear

    if isinstance(module, QKVParallelLinear):
        query, kv = module.total_num_heads, module.total_num_kv_heads
        return [module.head_size * heads for heads in (query, kv, kv)]
    if isinstance(module, MergedColumnParallelLinear):
        return list(module.output_sizes)
    return []


def _expert_pieces(model: Any) -> dict[str, Any]:
    """Module of experts -> (leaf, shape of the fused parameter) -> pieces."""
    mapping = list(getattr(model, "get_expert_mapping", list)())
    paths: dict[str, Any] = {}
    for path, module in model.named_modules():
        if mapping and type(module).__name__ in ("FusedMoE", "RoutedExperts"):
            above = path[: path.rfind("experts")]

            def pieces(leaf: str, shape: list[int], above: str = above) -> Iterable[Any]:
                for fused, disk, _, shard in mapping:
                    if leaf.startswith(fused.rpartition(".")[2]):
                        rows = shape[1] // 2 if shard in ("w1", "w3") else shape[1]
                        yield f"{above}{disk}weight", [rows, *shape[2:]]

            paths[path] = pieces
    return paths


def main(ask: str, answer: str) -> None:
    """Answer REQUEST.json; an error of ours is an answer, with its exit code."""
    try:
        content = probe(**json.loads(Path(ask).read_text()))
    except BringupError as error:
        content = {"error": [error.found, error.expected, error.fix]}
    Path(answer).write_text(json.dumps(content))


if __name__ == "__main__":
    main(*sys.argv[1:])
