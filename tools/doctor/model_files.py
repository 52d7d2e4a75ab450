# SPDX-License-Identifier: Apache-2.0
"""The directory of a checkpoint as files: sizes, permissions, shards; no headers, no tensors."""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import MODELSLIM_FILE
from vllm_ascend_bringup.checkpoint_files import tokenizer_files
from vllm_ascend_bringup.errors import CheckpointError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.model_facts import ModelFacts, model_facts
from vllm_ascend_bringup.tools.doctor.facts import ModelFiles, Unknown

_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
# vLLM's ShardedStateLoader: TP_ONLY_PATTERN and PP_AND_TP_PATTERN.
_RANK = re.compile(r"model-(?:rank|pp-\d+-tp)-(\d+)-part-\d+\.safetensors")
_AUDIO = re.compile("audio|speech|sound")


def read_model(model: str | None) -> ModelFiles | Unknown:
    """What the rules about the checkpoint need."""
    if model is None:
        return Unknown(Text(
            "no checkpoint was named: give --model", "未指定 checkpoint：请加上 --model"
        ))  # fmt: skip
    folder = Path(model)
    try:
        files = sorted(file for file in folder.iterdir() if file.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return Unknown(Text(
            f"{model} is no directory on this machine: download the checkpoint and name its folder",
            f"{model} 不是本机上的目录：请先下载 checkpoint，再指定其目录",
        ))  # fmt: skip
    except PermissionError:
        return Unknown(Text(
            f"{model} cannot be listed by this user: chmod, or run as its owner",
            f"当前用户无法列出 {model} 的内容：请修改权限，或以其属主身份运行",
        ))  # fmt: skip
    config = _json(folder / "config.json")
    facts = _facts(config)
    ranks = {int(match[1]) for file in files if (match := _RANK.fullmatch(file.name))}
    description = _json(folder / MODELSLIM_FILE)
    return ModelFiles(
        path=model,
        weights=_weights(files),
        has_config=bool(config),
        closed=tuple(file.name for file in files if not os.access(file, os.R_OK)),
        modes={
            name: (folder / name).stat().st_mode & 0o777
            for name in ("config.json", *tokenizer_files(folder))
            if (folder / name).exists()
        },
        ranks=max(ranks) + 1 if ranks else 0,
        missing_ranks=tuple(rank for rank in range(max(ranks, default=0)) if rank not in ranks),
        quantization=_string(description, "model_quant_type"),
        experts=facts.experts if facts else 0,
        audio=any(_AUDIO.search(part) for part in facts.parts) if facts else False,
        transformers=_string(config, "transformers_version"),
    )


def _weights(files: list[Path]) -> int:
    """Bytes of the first kind of weight file that is there: vLLM reads one kind."""
    for suffix in _WEIGHTS:
        sizes = [file.stat().st_size for file in files
                 if file.suffix == suffix and not file.name.startswith("consolidated")]  # fmt: skip
        if sizes:
            return sum(sizes)
    return 0


def _facts(config: Mapping[str, Any]) -> ModelFacts | None:
    try:
        return model_facts(config)
    except CheckpointError:  # `bringup inspect` says what is wrong with it
        return None


def _string(content: Mapping[str, Any], key: str) -> str | None:
    value = content.get(key)
    return value if isinstance(value, str) else None


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
