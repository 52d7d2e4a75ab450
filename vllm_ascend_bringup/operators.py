# SPDX-License-Identifier: Apache-2.0
"""The operators of torch_npu without which this plugin cannot do its work, and whether they exist.

What it cannot see: torch_npu has a Python name for each operator of ATB, also where the installed
ATB lacks the kernel; that shows when it is called.
"""

import importlib
from importlib.util import find_spec

from vllm_ascend_bringup.errors import SettingsError, listed
from vllm_ascend_bringup.hardware import Chip, installed_chip

# Those that take the masks of `attention.masks`, what puts a mask into their format, and what
# `attention.compressed` tries others with.
_FRACTAL = (
    "_npu_flash_attention", "_npu_paged_attention_splitfuse", "npu_format_cast",
    "empty_with_format", "_npu_reshape_and_cache",
)  # fmt: skip
# Of prompts and of chunks, with masks of fixed size: used where they are, and right.
COMPRESSED_MASKS = ("_npu_flash_attention_v3", "_npu_paged_attention_splitfuse_v2")


def needed_operators(chip: Chip) -> tuple[str, ...]:
    """Names below the module torch_npu."""
    return _FRACTAL if chip.fractal_attention else ()


def check_operators() -> None:
    """Raises SettingsError on an NPU whose torch_npu lacks an operator; does nothing elsewhere."""
    if find_spec("torch_npu") is None:
        return
    chip = installed_chip()
    if chip is None:
        return
    torch_npu = importlib.import_module("torch_npu")
    missing = [name for name in needed_operators(chip) if not hasattr(torch_npu, name)]
    if missing:
        raise SettingsError(
            f"torch_npu {torch_npu.__version__} lacks {listed(missing)}, needed on {chip.title}",
            "a torch_npu that has them, such as the one that vllm-ascend requires",
            "install that, or serve without the plugin: VLLM_PLUGINS=ascend",
        )
