# SPDX-License-Identifier: Apache-2.0
"""The quantization method "ascend_dequant": vLLM builds plain bf16 or fp16 layers.

Claims a checkpoint through ``override_quantization_method`` and rewrites every copy of its
quantization settings that vLLM, vllm-ascend and model code read, so that nothing else acts on
them. Imported by ``plugin.register`` only, since it imports vLLM.
"""

import copy
import os
from pathlib import Path
from typing import Any

import torch
from vllm.logger import init_logger
from vllm.model_executor.layers.quantization.base_config import QuantizationConfig

from vllm_ascend_bringup import ascend_layers
from vllm_ascend_bringup.checkpoint import MODELSLIM_FILE, complete_settings, read_checkpoint
from vllm_ascend_bringup.decode import warm_up
from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.formats.families.base import LeftAlone, SchemeTable, config_facts
from vllm_ascend_bringup.formats.pairing import decode_plan
from vllm_ascend_bringup.formats.schemes import scheme_table
from vllm_ascend_bringup.native import Decision, decide, need_of, probe_platform
from vllm_ascend_bringup.settings import read_settings

METHOD = "ascend_dequant"
# Load formats that go through our loader; "dummy" reads no checkpoint.
LOAD_FORMATS = ("auto", "hf", "safetensors")
_HARMLESS_LOAD_FORMATS = (*LOAD_FORMATS, "dummy")
# Where the original settings, and what else of the config says how to read them, are kept inside
# the rewritten ones.
_SOURCE, _FACTS = "source", "facts"
_VIEW_NAMES = ("quantization_config", "compression_config")
_LOGGER = init_logger("vllm.ascend_bringup.quantization")


class AscendDequantConfig(QuantizationConfig):
    """Quantization config of a checkpoint that our loader decodes.

    ``settings``: the checkpoint's quantization settings, as published. ``facts``: see
    ``config_facts``.
    """

    def __init__(
        self, settings: dict[str, Any] | None = None, facts: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        table = scheme_table(settings or {}, facts or {})
        if isinstance(table, LeftAlone):
            raise SettingsError(
                f"quantization method {METHOD}, but {table.reason}",
                "a checkpoint whose config says how its low-precision weights are scaled",
                f"leave out --quantization {METHOD}: it is chosen automatically",
            )
        self.settings = dict(settings or {})
        self.table: SchemeTable = table
        # vllm-ascend's AscendRMSNorm reads this of whatever config there is.
        self.quant_description: dict[str, str] = {}

    @classmethod
    def get_name(cls) -> str:
        """The name it is registered under."""
        return METHOD

    def get_supported_act_dtypes(self) -> list[torch.dtype]:
        """The dtypes weights can be decoded to."""
        return [torch.bfloat16, torch.float16, torch.float32]

    @classmethod
    def get_min_capability(cls) -> int:
        """CUDA capability; none needed."""
        return -1

    @staticmethod
    def get_config_filenames() -> list[str]:
        """No file: the settings come from config.json."""
        return []

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "AscendDequantConfig":
        """From the rewritten settings (see ``rewrite_settings``)."""
        return cls(config.get(_SOURCE), config.get(_FACTS))

    @classmethod
    def find(cls, hf_config: Any) -> "AscendDequantConfig":
        """From a model's config that ``rewrite_settings`` has rewritten."""
        for config in _configs(hf_config).values():
            for name in _VIEW_NAMES:
                view = getattr(config, name, None)
                if view and view.get("quant_method") == METHOD:
                    return cls.from_config(view)
        return cls()

    @classmethod
    def override_quantization_method(
        cls, hf_quant_cfg: dict[str, Any], user_quant: str | None, hf_config: Any = None
    ) -> str | None:
        """Claim settings whose weights we decode; rewrites them in the same step.

        vLLM asks before it builds anything, and asks custom methods first. It hands over the
        very dict that its config views share, and no later hook sees all of them. A user who
        names the config's own method asks for nothing else; any other method is respected.
        """
        method = hf_quant_cfg.get("quant_method")
        if method == METHOD:
            return METHOD
        dequant = read_settings().dequant
        if user_quant not in (None, METHOD, method) or dequant == "never":
            return None
        settings = complete_settings(Path(getattr(hf_config, "_name_or_path", "")), hf_quant_cfg)
        table = scheme_table(settings, _facts_of(hf_config))
        if _is_modelslim(hf_config):
            table = LeftAlone(f"{MODELSLIM_FILE}: ModelSlim weights, which vllm-ascend executes")
        if isinstance(table, LeftAlone):
            _LOGGER.info_once("quantization left alone: %s", table.reason)
            return None
        decision = _decision(dequant, hf_quant_cfg, table, hf_config)
        verdict = "decoding" if decision.decode else "left alone"
        _LOGGER.info_once("%s weights: %s, since %s", table.family, verdict, decision.reason)
        if not decision.decode:
            return None
        hf_quant_cfg.update(settings)
        rewrite_settings(hf_quant_cfg, hf_config)
        return METHOD

    def maybe_update_config(
        self, model_name: str, hf_config: Any = None, revision: str | None = None
    ) -> None:
        """Check a local checkpoint's headers now, before vLLM starts any process."""
        if os.path.isdir(model_name):
            decode_plan(read_checkpoint(model_name).tensors, self.table)

    def get_quant_method(self, layer: torch.nn.Module, prefix: str, **_: object) -> Any:
        """The unquantized method of this platform; None where vLLM's default is that already."""
        from vllm.model_executor.layers.fused_moe import RoutedExperts
        from vllm.model_executor.layers.linear import LinearBase, UnquantizedLinearMethod
        from vllm.platforms import current_platform

        _refuse_load_format()
        warm_up(torch.get_default_dtype())  # vLLM builds models under the dtype they serve in
        on_npu = current_platform.device_type == "npu"
        if isinstance(layer, LinearBase):
            return ascend_layers.linear_method() if on_npu else UnquantizedLinearMethod()
        if on_npu and isinstance(layer, RoutedExperts):
            return ascend_layers.moe_method(layer.moe_config)
        return None


def rewrite_settings(settings: dict[str, Any], hf_config: Any) -> None:
    """Make every view of the quantization settings say "ascend_dequant" and nothing else.

    In place, because ``model_config.model_arch_config`` and ``hf_config`` share ``settings``; then
    the places of ``hf_config`` that may hold a second copy. Side keys such as ``kv_cache_scheme``
    must go too: vLLM would switch the KV cache to fp8 for them.
    """
    source = copy.deepcopy(settings)
    settings.clear()
    settings.update(quant_method=METHOD, **{_SOURCE: source, _FACTS: _facts_of(hf_config)})
    for config in _configs(hf_config).values():
        for name in _VIEW_NAMES:
            if getattr(config, name, None):
                setattr(config, name, settings)


def remaining_settings(model_config: Any) -> list[str]:
    """Views of the quantization settings that still show the original ones, by name."""
    configs = _configs(model_config.hf_config)
    configs["hf_text_config"] = model_config.hf_text_config
    configs["model_arch_config"] = model_config.model_arch_config
    return [
        f"{where}.{name}"
        for where, config in configs.items()
        for name in _VIEW_NAMES
        if (view := getattr(config, name, None)) and view.get("quant_method") != METHOD
    ]


def _configs(hf_config: Any) -> dict[str, Any]:
    """``hf_config`` and the configs inside it (text, vision, thinker ...)."""
    inner = {name: value for name, value in vars(hf_config or object).items()
             if hasattr(value, "to_dict")}  # fmt: skip
    return {"hf_config": hf_config, **inner}


def _facts_of(hf_config: Any) -> dict[str, Any]:
    return config_facts(hf_config.to_dict()) if hf_config is not None else {}


def _is_modelslim(hf_config: Any) -> bool:
    """ModelSlim's description wins over config.json in vllm-ascend, and is not ours to decode."""
    folder = getattr(hf_config, "_name_or_path", "")
    return os.path.exists(os.path.join(folder, MODELSLIM_FILE))


def _decision(
    dequant: str, settings: dict[str, Any], table: SchemeTable, hf_config: Any
) -> Decision:
    """Whether to decode here, and why."""
    if dequant == "always":
        return Decision(True, "VLLM_ASCEND_BRINGUP_DEQUANT=always")
    platform = probe_platform()
    if platform is None:
        return Decision(False, "this platform is neither Ascend nor CPU")
    if platform.chip is None:
        return Decision(True, "no known Ascend chip is here to execute them")
    folder = getattr(hf_config, "_name_or_path", "")
    if not os.path.isdir(folder):
        return Decision(True, "its headers are not on this machine yet")
    pairings = decode_plan(read_checkpoint(folder).tensors, table).pairings.values()
    need = need_of(settings, _facts_of(hf_config), pairings)
    return decide(need, platform.chip, platform.supported, platform.has_method)


def _refuse_load_format() -> None:
    """Other load formats bypass our loader and would copy codes into bf16 parameters."""
    from vllm.config import get_current_vllm_config

    load_format = get_current_vllm_config().load_config.load_format
    if str(load_format) not in _HARMLESS_LOAD_FORMATS:
        raise SettingsError(
            f"--load-format {load_format} with a low-precision checkpoint",
            "--load-format " + " or ".join(LOAD_FORMATS),
            "leave out --load-format, or convert the checkpoint to bf16 first",
        )
