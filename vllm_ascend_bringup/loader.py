# SPDX-License-Identifier: Apache-2.0
"""The model loader: vLLM's own, with low-precision weights decoded on the way.

Imported by ``plugin.register`` only, since it imports vLLM.
"""

import contextlib
import itertools
import math
import re
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from vllm.config import get_current_vllm_config
from vllm.distributed import get_tensor_model_parallel_rank, get_tensor_model_parallel_world_size
from vllm.logger import init_logger
from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

from vllm_ascend_bringup.checkpoint import read_tensors
from vllm_ascend_bringup.decode import Decoder, default_threads
from vllm_ascend_bringup.errors import CheckpointError, LoadError, listed
from vllm_ascend_bringup.formats.base import Shape
from vllm_ascend_bringup.formats.pairing import decode_plan, output_shapes
from vllm_ascend_bringup.load_audit import LOW_PRECISION_DTYPES, LoadAudit
from vllm_ascend_bringup.quantization import METHOD, AscendDequantConfig, remaining_settings
from vllm_ascend_bringup.recipe_hooks import final_names, recipe_of, renamed
from vllm_ascend_bringup.recipes.recipe import Recipe
from vllm_ascend_bringup.settings import Settings, read_settings
from vllm_ascend_bringup.weights import ReadAhead, ShardReader, decoding_stream

# A child of vLLM's logger, so that its handlers and levels apply.
_LOGGER = init_logger("vllm.ascend_bringup.loader")

# Tensors that vLLM's model classes leave out on purpose.
_LEFT_OUT = re.compile(r"rotary_emb\.|rotary_pos_emb\.|(^|\.)(mtp|nextn|eagle)\w*\.")
_LAYER = re.compile(r"(?:^|\.)layers\.(\d+)\.")
_OTHER_TOWER = re.compile(r"vision|visual|image|audio")
_MISSING_LAYERS = ("PPMissingLayer", "StageMissingLayer")


class BringupModelLoader(DefaultModelLoader):
    """Decodes checkpoints of method "ascend_dequant"; audits them and all unquantized ones.

    Checkpoints that vLLM or vllm-ascend quantize themselves pass through untouched.
    """

    def __init__(self, load_config: Any) -> None:
        super().__init__(load_config)
        self._session: _Session | None = None
        self._recipe: Recipe | None = None

    def load_weights(self, model: torch.nn.Module, model_config: Any) -> None:
        """Load as vLLM does, then check that nothing is left over on either side."""
        settings = read_settings()
        self._recipe = recipe_of(model_config.hf_config)
        decodes = model_config.quantization == METHOD
        if not decodes and (model_config.quantization is not None or settings.dequant == "never"):
            if model_config.quantization is not None:
                _LOGGER.info("quantization method %s is left alone", model_config.quantization)
            super().load_weights(model, model_config)
            return
        views = remaining_settings(model_config) if decodes else []
        if views:
            raise LoadError(
                f"quantization settings are still visible in {listed(views)}",
                "every view rewritten before the model was built",
                "report this with the output of `bringup inspect`; it is a defect of the plugin",
            )
        audit = LoadAudit(dict(model.named_parameters()))
        on_device = settings.decode_on == "device"
        with (
            Decoder(_threads(settings), on_device=on_device) as decoder,
            contextlib.ExitStack() as active,
        ):
            if decodes:
                active.enter_context(audit)
            self._session = _Session(model_config, decoder, audit, decodes, active, self._recipe)
            try:
                super().load_weights(model, model_config)
            finally:
                session, self._session = self._session, None
        if decodes:
            session.finish(model, settings)

    def get_all_weights(
        self, model_config: Any, model: torch.nn.Module
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        """vLLM's stream, renamed by the architecture's recipe and watched by the audit."""
        weights = super().get_all_weights(model_config, model)
        if self._recipe is not None:
            weights = renamed(weights, self._recipe, model_config.hf_config)
        yield from self._session.watch(weights) if self._session else weights

    def _get_weights_iterator(self, source: Any) -> Generator[tuple[str, torch.Tensor], None, None]:
        """One source (a model may have several), decoded if this load decodes."""
        if self._session is None or not self._session.decodes:
            yield from super()._get_weights_iterator(source)
            return
        folder, files, safetensors = self._prepare_weights(
            source.model_or_path, source.subfolder, source.revision, source.fall_back_to_pt,
            source.allow_patterns_overrides,
        )[:3]  # fmt: skip
        if not safetensors:
            raise CheckpointError(
                f"{folder} holds pickled weights with low-precision settings",
                "*.safetensors",
                "download the safetensors version of the checkpoint or convert it",
            )
        weights = super()._get_weights_iterator(source)
        yield from self._session.decode(weights, Path(folder), files, source.prefix)


class _Session:
    """One load: the decoder, the audit, and what has been seen.

    ``active``: where the audit is entered if need be; it is left when the load is over.
    """

    def __init__(
        self,
        model_config: Any,
        decoder: Decoder,
        audit: LoadAudit,
        decodes: bool,
        active: contextlib.ExitStack,
        recipe: Recipe | None,
    ) -> None:
        self.decodes = decodes
        self._recipe = recipe
        self._audit = audit
        self._active = active
        self._model_config = model_config
        self._decoder = decoder
        self._started = time.perf_counter()
        self._planned: dict[str, Shape] = {}
        self._weights = 0
        self._streamed: set[str] = set()

    def watch(
        self, weights: Generator[tuple[str, torch.Tensor], None, None]
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Pass the stream through under the audit.

        A dispatch mode costs microseconds per operation, so a checkpoint that is not decoded is
        audited only from its first low-precision tensor on; most have none.
        """
        if self.decodes:
            yield from self._audit.watch(weights)
            return
        for name, tensor in weights:
            if tensor.dtype in LOW_PRECISION_DTYPES:
                self._active.enter_context(self._audit)
                yield from self._audit.watch(itertools.chain([(name, tensor)], weights))
                return
            yield name, tensor

    def decode(
        self, weights: Any, folder: Path, files: list[str], prefix: str
    ) -> Generator[tuple[str, torch.Tensor], None, None]:
        """Decode one source; names come with ``prefix``, which the checkpoint does not have."""
        shards = sorted(Path(file).name for file in files)
        tensors, _ = read_tensors(folder, shards)
        plan = decode_plan(tensors, AscendDequantConfig.find(self._model_config.hf_config).table)
        planned = output_shapes(plan)
        self._planned |= planned
        self._weights += len(plan.pairings)
        unprefixed = ((name.removeprefix(prefix), tensor) for name, tensor in weights)
        with ReadAhead([folder / shard for shard in shards]) as read_ahead:
            decoded = decoding_stream(
                unprefixed, plan, ShardReader(folder), self._decoder,
                self._model_config.dtype, read_ahead,
            )  # fmt: skip
            for name, tensor in self._audit.unwatched(decoded):
                if name in planned:
                    self._streamed.add(name)
                yield prefix + name, tensor

    def finish(self, model: torch.nn.Module, settings: Settings) -> None:
        """Report in one line, and raise LoadError (or warn) for anything left over."""
        counts = self._decoder.counts
        elements = sum(math.prod(shape) for shape in self._planned.values())
        rank, ranks = get_tensor_model_parallel_rank(), get_tensor_model_parallel_world_size()
        _LOGGER.info(
            "TP rank %d of %d: decoded %d of %d elements of %d weights to %s in %.2f s, "
            "%d threads, not lazy: %s",
            rank, ranks, counts.elements, elements, self._weights, self._model_config.dtype,
            time.perf_counter() - self._started, self._decoder.threads,
            counts.materialized or "none",
        )  # fmt: skip
        if counts.copied:
            _LOGGER.info(
                "%d bytes copied to the device, where %d weights were decoded",
                counts.copied, len(counts.on_device),
            )  # fmt: skip
        if counts.nan_weights:
            _LOGGER.warning(
                "%d weights hold NaN codes, which stay NaN: %s",
                len(counts.nan_weights), listed(counts.nan_weights),
            )  # fmt: skip
        problems = []
        unfilled = {
            name: sizes
            for name, sizes in self._audit.unfilled(dict(model.named_parameters())).items()
            if self._recipe is None or not self._recipe.excuses_missing(name)
        }
        if unfilled:
            problems.append("parameters not filled: " + listed(
                [f"{name} ({done} of {size} elements)" for name, (done, size) in unfilled.items()]
            ))  # fmt: skip
        unused = self._undecoded(self._streamed - counts.weights) | self._audit.unused()
        if self._recipe is not None:
            unused = {name for name in unused if not self._recipe.excuses_unused(name)}
        unexplained = {n for n in unused if not left_out(n, model, self._model_config)}
        if unexplained:
            problems.append("tensors that no parameter took: " + listed(unexplained))
        # A draft model takes embeddings and head from the model it drafts for, after loading.
        if problems and settings.audit == "error" and self._model_config.runner_type != "draft":
            raise LoadError(
                "; ".join(problems),
                "every tensor in a parameter and every parameter filled",
                "check that the checkpoint is complete and of this architecture; if the model "
                "class is right, set VLLM_ASCEND_BRINGUP_AUDIT=warn and report it",
            )
        for problem in problems:
            _LOGGER.warning("%s", problem)

    def _undecoded(self, names: set[str]) -> set[str]:
        """Weights that were never decoded, by the names the model class saw."""
        if self._recipe is None:
            return names
        return {
            final
            for name in names - {n for n in names if self._recipe.excuses_unused(n)}
            for final in final_names(self._recipe, name)
        }


def left_out(name: str, model: torch.nn.Module, model_config: Any) -> bool:
    """Whether vLLM's model class leaves this tensor out on purpose."""
    if model_config.runner_type == "draft" or _LEFT_OUT.search(name):
        return True
    config = model_config.hf_text_config
    if _behind_the_last_layer(name, model, config):
        return True
    if name.endswith("lm_head.weight") and getattr(config, "tie_word_embeddings", False):
        return True
    mapper = getattr(model, "hf_to_vllm_mapper", None)
    if mapper is not None and mapper.apply_list([name]) == []:
        return True
    parallel = get_current_vllm_config().parallel_config
    if parallel.enable_expert_parallel and ".experts." in name:
        return True  # another rank's expert
    # Parts of the model live on other ranks or were disabled; names do not tell which.
    return any(type(module).__name__ in _MISSING_LAYERS for module in model.modules())


def _behind_the_last_layer(name: str, model: torch.nn.Module, config: Any) -> bool:
    """Whether a tensor is of a layer that the class does not build.

    Multi-token-prediction layers are stored after the model's own; a vision tower whose last
    layers nobody looks at (LLaVA) is built without them.
    """
    layer = _LAYER.search(name)
    if layer is None:
        return False
    layers = _layers_at(model, name[: layer.start(1) - 1])
    if layers is None and not _OTHER_TOWER.search(name):
        layers = getattr(config, "num_hidden_layers", None)
    return layers is not None and int(layer[1]) >= layers


def _layers_at(model: torch.nn.Module, path: str) -> int | None:
    """How many layers the class has at ``path``, if that is a path of its modules."""
    try:
        found = model.get_submodule(path)
    except AttributeError:
        return None
    return len(found) if isinstance(found, torch.nn.ModuleList) else None


def _threads(settings: Settings) -> int:
    local_ranks = get_current_vllm_config().parallel_config.local_world_size
    return settings.threads or default_threads(local_ranks)
