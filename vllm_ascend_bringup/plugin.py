# SPDX-License-Identifier: Apache-2.0
"""What vLLM's plugin mechanism calls, in every process, possibly more than once.

Importing this module loads neither torch nor vLLM.
"""

import logging
import os
from importlib.metadata import entry_points
from importlib.util import find_spec

from vllm_ascend_bringup.settings import read_settings

PLUGIN = "ascend_bringup"
_ASCEND_PLUGIN = "ascend"


def register() -> str:
    """Entry point ``vllm.general_plugins``: register the quantization method and the loader.

    Asks before it acts, so a second call changes nothing. Returns the line it logs. Raises
    SettingsError for a bad ``VLLM_ASCEND_BRINGUP_*`` variable, in the first process already.
    """
    settings = read_settings()
    from vllm.logger import init_logger

    logger = init_logger("vllm.ascend_bringup")
    if settings.dequant == "never":
        return _log(logger, "VLLM_ASCEND_BRINGUP_DEQUANT=never: nothing registered")
    from vllm.model_executor import model_loader
    from vllm.model_executor.layers import quantization

    from vllm_ascend_bringup.loader import BringupModelLoader
    from vllm_ascend_bringup.quantization import LOAD_FORMATS, METHOD, AscendDequantConfig

    if METHOD in quantization.QUANTIZATION_METHODS:
        return _log(logger, "registered already")
    quantization.register_quantization_config(METHOD)(AscendDequantConfig)
    with _quiet("vllm.model_executor.model_loader"):
        for load_format in LOAD_FORMATS:
            model_loader.register_model_loader(load_format)(BringupModelLoader)
    return _log(logger, f"registered quantization method {METHOD} and its loader")


def platform() -> str | None:
    """Entry point ``vllm.platform_plugins``: the platform class to use, or None for vLLM's choice.

    None wherever vllm-ascend's own platform will activate, because vLLM refuses to start with two
    out-of-tree platforms. A user who allowlists this plugin in VLLM_PLUGINS and not vllm-ascend's
    gets a subclass of vllm-ascend's platform instead.
    """
    if find_spec("vllm_ascend") is None:
        return None
    found = {plugin.name for plugin in entry_points(group="vllm.platform_plugins")}
    allowed = os.environ.get("VLLM_PLUGINS")
    chosen = found if allowed is None else found & set(allowed.split(","))
    if _ASCEND_PLUGIN in chosen or allowed is None:
        return None
    return "vllm_ascend_bringup.npu_platform.BringupNPUPlatform"


def _log(logger: logging.Logger, line: str) -> str:
    logger.info("%s: %s", PLUGIN, line)
    return line


class _quiet:
    """Mute a logger below ERROR: replacing vLLM's own entry for a load format is what
    ``register_model_loader`` warns about, once per format and process, and it is our purpose.
    """

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)
        self._level = self._logger.level

    def __enter__(self) -> None:
        self._logger.setLevel(logging.ERROR)

    def __exit__(self, *exception: object) -> None:
        self._logger.setLevel(self._level)
