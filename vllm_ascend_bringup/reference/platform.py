# SPDX-License-Identifier: Apache-2.0
"""vLLM's CPU platform with the limits of an Ascend chip and attention by the reference kernels.

Imported by vLLM where ``plugin.platform`` names one of these classes.
"""

from typing import TYPE_CHECKING, Any

import torch
from vllm.logger import init_logger
from vllm.platforms.cpu import CpuPlatform

from vllm_ascend_bringup.errors import PlatformError
from vllm_ascend_bringup.hardware import CHIPS, QUANTIZATION, Chip

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_ATTENTION = "vllm_ascend_bringup.reference.attention"

# Under vLLM's own name, or its handlers would not print it.
_LOGGER = init_logger("vllm.ascend_bringup")


class ReferencePlatform(CpuPlatform):
    """One of the subclasses below is what vLLM gets; ``chip`` is what it stands for."""

    chip: Chip
    # Under this name vllm-ascend's platform counts devices in a Ray cluster.
    ray_device_key = "NPU"

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.device_name = f"reference-{cls.chip.id}"
        # A list of its own: vLLM appends the methods that plugins register.
        cls.supported_quantization = list(QUANTIZATION)

    @property
    def supported_dtypes(self) -> list[torch.dtype]:
        """What vLLM chooses from for ``--dtype auto``."""
        return [getattr(torch, name) for name in self.chip.dtypes]

    @classmethod
    def get_attn_backend_cls(
        cls, selected_backend: Any, attn_selector_config: Any, num_heads: int | None = None
    ) -> str:
        """The attention of this chip. Raises PlatformError for what its operators do not take."""
        config = attn_selector_config
        if config.use_sparse or (config.use_mla and not cls.chip.mla):
            raise PlatformError(
                f"{'sparse attention' if config.use_sparse else 'MLA'} on {cls.device_name}",
                "attention that the chip's operators compute",
                "serve this model on another chip, or without VLLM_ASCEND_BRINGUP_PLATFORM",
            )
        if config.use_mla:
            return "vllm_ascend_bringup.reference.mla.ReferenceMLABackend"
        block_size = cls.chip.block_size(config.head_size)
        if block_size is None:
            raise PlatformError(
                f"head size {config.head_size} on {cls.device_name}",
                f"a multiple of 16 up to {cls.chip.largest_head}",
                "this model does not run on that chip",
            )
        if not cls.chip.fractal_attention:
            return f"{_ATTENTION}.ReferenceBackend"
        return f"{_ATTENTION}.ReferenceNZBackend{block_size}"

    @classmethod
    def check_and_update_config(cls, vllm_config: "VllmConfig") -> None:
        """What the chip cannot do is refused here, before weights are read."""
        model_config, cache_config = vllm_config.model_config, vllm_config.cache_config
        if model_config is not None and model_config.dtype not in cls._dtypes():
            raise PlatformError(
                f"{model_config.dtype} on {cls.device_name}",
                f"{' or '.join(cls.chip.dtypes)}, which are what the chip's operators take",
                f"vllm serve --dtype {cls.chip.dtypes[0]}",
            )
        if model_config is not None and model_config.is_hybrid:
            raise PlatformError(
                f"a hybrid model on {cls.device_name}",
                "layers whose caches are keys and values: a state in the same memory would lie "
                "across them",
                "serve this model without VLLM_ASCEND_BRINGUP_PLATFORM",
            )
        if cache_config.cache_dtype != "auto":
            raise PlatformError(
                f"--kv-cache-dtype {cache_config.cache_dtype} on {cls.device_name}",
                "auto: the reference kernels compute with caches of the model's own dtype",
                "leave it out",
            )
        if vllm_config.kv_transfer_config is not None:
            raise PlatformError(
                f"KV transfer on {cls.device_name}",
                "none: the chip's cache layout has no blocks that could be copied as a whole",
                "leave --kv-transfer-config out",
            )
        scheduler = vllm_config.scheduler_config
        before = (
            scheduler.enable_chunked_prefill, scheduler.max_num_batched_tokens,
            cache_config.enable_prefix_caching,
        )  # fmt: skip
        _LOGGER.info_once(
            "%s: the chip's limits, KV cache and attention, computed on a CPU; no statement about "
            "its speed or its operators' defects", cls.device_name,
        )  # fmt: skip
        super().check_and_update_config(vllm_config)
        # The parent's own MLA kernels do without chunks and prefixes, ours do not.
        (
            scheduler.enable_chunked_prefill, scheduler.max_num_batched_tokens,
            cache_config.enable_prefix_caching,
        ) = before  # fmt: skip
        # As vllm-ascend does (refresh_block_size), whatever the user asked for.
        cache_config.block_size = cls.chip.block_sizes[0]

    @classmethod
    def _dtypes(cls) -> list[torch.dtype]:
        return [getattr(torch, name) for name in cls.chip.dtypes]


class Reference310P(ReferencePlatform):
    """``reference-310p``: Atlas 300I Duo and its kin."""

    chip = CHIPS["310p"]


class ReferenceA2(ReferencePlatform):
    """``reference-a2``."""

    chip = CHIPS["a2"]


class ReferenceA3(ReferencePlatform):
    """``reference-a3``."""

    chip = CHIPS["a3"]
