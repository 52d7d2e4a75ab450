# SPDX-License-Identifier: Apache-2.0
"""What vLLM's plugin mechanism calls, in every process, possibly more than once.

Importing this module loads neither torch nor vLLM.
"""

import contextlib
import logging
import os
from collections.abc import Iterator
from importlib.metadata import entry_points
from importlib.util import find_spec

from vllm_ascend_bringup.errors import SettingsError
from vllm_ascend_bringup.settings import read_settings

# Oldest and newest vLLM that the engine tests run on.
TESTED_VLLM = ("0.27.1", "0.32.0")
PLUGIN = "ascend_bringup"
_ASCEND_PLUGIN = "ascend"


def register() -> str:
    """Entry point ``vllm.general_plugins``: register recipes, quantization method and loader.

    Asks before it acts, so a second call changes nothing. Returns the line it logs. Raises
    SettingsError for a bad ``VLLM_ASCEND_BRINGUP_*`` variable, a vLLM that lacks the hooks or a
    torch_npu that lacks operators, RecipeError for a bad recipe, PatchError for a patch asked for
    that does not fit.
    """
    settings = read_settings()
    from vllm.logger import init_logger

    logger = init_logger("vllm.ascend_bringup")
    try:
        from vllm.model_executor import model_loader
        from vllm.model_executor.layers import quantization
        from vllm.transformers_utils import config as vllm_configs

        from vllm_ascend_bringup.loader import BringupModelLoader
        from vllm_ascend_bringup.operators import check_operators
        from vllm_ascend_bringup.patch_hooks import apply_patches
        from vllm_ascend_bringup.quantization import LOAD_FORMATS, METHOD, AscendDequantConfig
        from vllm_ascend_bringup.recipe_hooks import BringupConfigParser, register_recipes
    except ImportError as error:
        raise SettingsError(
            f"this vLLM does not fit this plugin ({error})",
            f"a vLLM from {TESTED_VLLM[0]} to {TESTED_VLLM[1]}",
            "install one of these, or serve without the plugin: VLLM_PLUGINS=",
        ) from error
    _check_platform(settings.platform)
    _allow_amx()
    check_operators()
    if isinstance(vllm_configs.get_config_parser("hf"), BringupConfigParser):
        return _log(logger, "registered already")
    recipes = register_recipes()
    apply_patches(settings.patches)
    with _quiet("vllm.transformers_utils.config"):
        vllm_configs.register_config_parser("hf")(BringupConfigParser)
    with _quiet("vllm.model_executor.model_loader"):
        for load_format in LOAD_FORMATS:
            model_loader.register_model_loader(load_format)(BringupModelLoader)
    if settings.dequant == "never":
        return _log(logger, f"registered {recipes} recipes; VLLM_ASCEND_BRINGUP_DEQUANT=never")
    if METHOD not in quantization.QUANTIZATION_METHODS:
        quantization.register_quantization_config(METHOD)(AscendDequantConfig)
    return _log(
        logger, f"registered quantization method {METHOD}, its loader and {recipes} recipes"
    )


def platform() -> str | None:
    """Entry point ``vllm.platform_plugins``: the platform class to use, or None for vLLM's choice.

    A reference platform where the settings name one. Otherwise None wherever vllm-ascend's own
    platform will activate, because vLLM refuses to start with two out-of-tree platforms. A user
    who allowlists this plugin in VLLM_PLUGINS and not vllm-ascend's gets a subclass of
    vllm-ascend's platform instead.
    """
    chosen_platform = read_settings().platform
    if chosen_platform != "auto":
        chip = chosen_platform.removeprefix("reference-")
        return f"vllm_ascend_bringup.reference.platform.Reference{chip.upper()}"
    if find_spec("vllm_ascend") is None:
        return None
    found = {plugin.name for plugin in entry_points(group="vllm.platform_plugins")}
    allowed = os.environ.get("VLLM_PLUGINS")
    chosen = found if allowed is None else found & set(allowed.split(","))
    if _ASCEND_PLUGIN in chosen or allowed is None:
        return None
    return "vllm_ascend_bringup.npu_platform.BringupNPUPlatform"


def _check_platform(chosen: str) -> None:
    """Raise SettingsError if vLLM runs on another platform than the reference platform asked for.

    vLLM catches what ``platform`` raises, so it is said here, where errors end the start.
    """
    from vllm.platforms import current_platform

    if chosen != "auto" and current_platform.device_name != chosen:
        raise SettingsError(
            f"VLLM_ASCEND_BRINGUP_PLATFORM={chosen}, but vLLM runs on "
            f"{type(current_platform).__name__}",
            "a CPU build of vLLM and no other platform plugin",
            "unset it, or allow this plugin only: VLLM_PLUGINS=" + PLUGIN,
        )


def _allow_amx() -> None:
    """Ask Linux to let this process use AMX, where the CPU has it.

    vLLM's CPU attention (seen in 0.32.0) uses AMX but leaves the asking to oneDNN, which asks at
    its first large matrix product. If the first prompt is short, there was none yet, and the
    worker dies of SIGILL.
    """
    import torch
    from vllm.platforms import current_platform

    if current_platform.is_cpu() and hasattr(torch.cpu, "_init_amx"):
        torch.cpu._init_amx()


def _log(logger: logging.Logger, line: str) -> str:
    logger.info("%s: %s", PLUGIN, line)
    return line


@contextlib.contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Mute a logger below ERROR: replacing vLLM's own entry for a load format is what
    ``register_model_loader`` warns about, once per format and process, and it is our purpose.
    """
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
