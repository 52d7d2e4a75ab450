# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint becomes on a chip: its weights as stored, or decoded by this plugin."""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import (
    MODELSLIM_FILE,
    Checkpoint,
    read_checkpoint,
    read_header,
    read_json,
)
from vllm_ascend_bringup.errors import CheckpointError, PlanError, listed
from vllm_ascend_bringup.formats.families.base import LeftAlone, config_facts
from vllm_ascend_bringup.formats.pairing import DecodePlan, decode_plan, refuse_low_precision
from vllm_ascend_bringup.formats.schemes import checkpoint_schemes
from vllm_ascend_bringup.hardware import CHIPS, DEPLOYMENTS
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.model_facts import ModelFacts, model_facts, text_settings
from vllm_ascend_bringup.native import decide, need_of
from vllm_ascend_bringup.settings import Settings, read_settings
from vllm_ascend_bringup.tools.checkpoint_report import recipe_in_force
from vllm_ascend_bringup.tools.model_class import find_model_class
from vllm_ascend_bringup.tools.model_questions import answer_questions, is_of_mtp
from vllm_ascend_bringup.tools.rank_weights import WeightBytes, weight_bytes
from vllm_ascend_bringup.tools.remote_code import read_remote_code, settings_of
from vllm_ascend_bringup.tools.transformers_source import installed_transformers
from vllm_ascend_bringup.tools.vllm_registry import InstalledVllm, installed_vllm

# vLLM's patterns (model_executor/model_loader/sharded_state_loader.py).
_RANK_FILE = re.compile(r"model-rank-(\d+)-part-(\d+)\.safetensors")
COMPRESSED = "W8A8SC"


@dataclass(frozen=True)
class Served:
    """A model on a chip.

    ``weights``: None where ``rank_bytes`` has the bytes of each rank, because the checkpoint was
    saved for that many. ``quantization``: for --quantization, None for none. ``modelslim``: the
    types of ModelSlim's weights. ``action``: what happens to the weights. ``context``: tokens that
    vLLM takes if it is not told. ``config``: as it is served; ``text``: the language model's part.
    """

    path: Path
    model: ModelFacts
    config: Mapping[str, Any]
    text: Mapping[str, Any]
    weights: WeightBytes | None
    rank_bytes: tuple[int, ...]
    quantization: str | None
    modelslim: frozenset[str]
    action: Text
    context: int
    remote_code: bool

    @property
    def moe(self) -> bool:
        """A mixture of experts."""
        return self.model.experts > 0

    @property
    def encoder_decoder(self) -> bool:
        """As transformers says it."""
        return self.text.get("is_encoder_decoder") is True

    def number(self, *names: str) -> int:
        """The first of these settings that is a number, 0 if none is."""
        found = (self.text.get(name) for name in names)
        return next((n for n in found if type(n) is int), 0)


def read_served(path: Path, device: str) -> Served:
    """Read config and headers. Raises CheckpointError, FormatError, or PlanError if the chip has
    no way to execute the weights.
    """
    settings, vllm = read_settings(), installed_vllm()
    ranks = _rank_bytes(path)
    if ranks:
        config: Mapping[str, Any] = read_json(path / "config.json")
        names: list[str] = []
        model, remote = model_facts(config), False
        weights, plan = None, None
        action = Text(
            "stored for {count} ranks, loaded as it is", "按 {count} 个 rank 保存，原样加载"
        ).format(count=len(ranks))
        quantization = "ascend" if (path / MODELSLIM_FILE).exists() else None
    else:
        checkpoint = read_checkpoint(path)
        config, remote = _config(checkpoint, settings, vllm)
        model, names = model_facts(config), list(checkpoint.tensors)
        plan, quantization, action = _treatment(checkpoint, settings, device)
        tensors = [t for name, t in checkpoint.tensors.items() if not is_of_mtp(name, model)]
        weights = weight_bytes(tensors, plan, cast=checkpoint.quantization is None)
    types = _modelslim_types(path)
    _check_modelslim(types, bool(ranks), device)
    answers = answer_questions(model, names, settings_of(path / "tokenizer_config.json"), vllm, ())
    return Served(
        path, model, config, text_settings(config), weights, ranks, quantization, types, action,
        answers.context.default, remote,
    )  # fmt: skip


def _rank_bytes(path: Path) -> tuple[int, ...]:
    """Bytes of each rank of a checkpoint saved with one file or more for each; empty if it is not.

    Raises CheckpointError if a rank is missing.
    """
    total: Counter[int] = Counter()
    for file in path.glob("*.safetensors") if path.is_dir() else ():
        if match := _RANK_FILE.fullmatch(file.name):
            total[int(match[1])] += sum(t.nbytes for t in read_header(file).values())
    if missing := sorted(set(range(max(total, default=-1) + 1)) - set(total)):
        gone = listed([str(rank) for rank in missing])
        raise CheckpointError(
            Text("files of rank {gone} are missing in {path}", "{path} 中缺少 rank {gone} 的文件")
            .format(gone=gone, path=path),
            Text("files of all {count} ranks", "全部 {count} 个 rank 的文件")
            .format(count=max(total) + 1),
            Text("copy the whole folder again", "重新复制整个目录"),
        )  # fmt: skip
    return tuple(total[rank] for rank in sorted(total))


def _config(
    checkpoint: Checkpoint, settings: Settings, vllm: InstalledVllm
) -> tuple[Mapping[str, Any], bool]:
    """The config that is served, and whether with code from the checkpoint."""
    recipe, config, misfit = recipe_in_force(checkpoint, settings, vllm)
    if misfit:
        raise PlanError(
            Text("the recipe for this checkpoint cannot be used", "该 checkpoint 的配方无法使用"),
            Text("a recipe that fits it", "与其匹配的配方"),
            Text("`bringup inspect` says what is wrong", "`bringup inspect` 会说明原因"),
        )
    transformers = installed_transformers()
    code = read_remote_code(checkpoint.path, transformers)
    found = find_model_class(model_facts(config), code, vllm, transformers, recipe)
    return config, found.source == "remote code"


def _treatment(
    checkpoint: Checkpoint, settings: Settings, device: str
) -> tuple[DecodePlan | None, str | None, Text]:
    """Plan of decoding if it is decoded, method for --quantization, and what happens in words."""
    as_is = Text("loaded as it is", "原样加载")
    source = checkpoint.quantization
    if source is None:
        refuse_low_precision(checkpoint.tensors, "the config has no quantization settings")
        return None, None, as_is
    table = checkpoint_schemes(checkpoint)
    if isinstance(table, LeftAlone):
        if (checkpoint.path / MODELSLIM_FILE).exists():
            text = Text(
                "quantized by ModelSlim, executed as stored", "ModelSlim 量化，按原格式执行"
            )
            return None, "ascend", text
        return None, None, as_is
    plan = decode_plan(checkpoint.tensors, table)
    need = need_of(source.settings, config_facts(checkpoint.config), plan.pairings.values())
    chip, methods = CHIPS[device], DEPLOYMENTS[device].quantization
    # That the installed vllm-ascend has the scheme is asked there; here it is taken as said.
    stored = not decide(need, chip, methods, lambda method, scheme: True).decode
    if settings.dequant == "never" or (stored and settings.dequant == "auto"):
        executed = Text("quantized, executed as stored", "量化权重，按原格式执行")
        return None, None, executed
    decoded = Text("decoded to 16 bits while loading", "加载时反量化为 16 位")
    return plan, None, decoded


def _modelslim_types(path: Path) -> frozenset[str]:
    """Of the weights, from ModelSlim's description; without FLOAT, which is not quantized."""
    if not (path / MODELSLIM_FILE).exists():
        return frozenset()
    content = read_json(path / MODELSLIM_FILE)
    of_weights = {value for name, value in content.items() if name.endswith(".weight")}
    found = {str(value) for value in (*of_weights, content.get("model_quant_type", "FLOAT"))}
    return frozenset(found - {"FLOAT"})


def _check_modelslim(types: frozenset[str], by_ranks: bool, device: str) -> None:
    served = DEPLOYMENTS[device].modelslim
    if unknown := types - served:
        raise PlanError(
            Text("{found} weights on {chip}", "{chip} 上的 {found} 权重")
            .format(found=listed(set(unknown)), chip=CHIPS[device].title),
            Text("one of {known}", "以下之一：{known}").format(known=listed(set(served))),
            Text("quantize the model to a type that this chip has",
                 "将模型量化为该芯片支持的类型"),
        )  # fmt: skip
    if COMPRESSED in types and not by_ranks:
        raise PlanError(
            Text("W8A8SC weights without files of ranks", "W8A8SC 权重缺少按 rank 保存的文件"),
            Text("model-rank-R-part-P.safetensors for each rank",
                 "每个 rank 的 model-rank-R-part-P.safetensors"),
            Text("compress the W8A8S weights again, for the TP size to be served",
                 "按实际部署的 TP 重新压缩 W8A8S 权重"),
        )  # fmt: skip


def expert_parameters(served: Served) -> tuple[int, int]:
    """Experts of a token and columns of each: 0, 0 for a dense model."""
    top = served.number("num_experts_per_tok", "moe_topk", "num_experts_per_token")
    return (top, served.number("moe_intermediate_size", "intermediate_size")) if served.moe else (
        0, 0
    )  # fmt: skip


def vocabulary_rows(served: Served) -> int:
    """As vLLM pads them, to a multiple of 64."""
    return math.ceil(served.model.vocabulary / 64) * 64
