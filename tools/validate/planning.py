# SPDX-License-Identifier: Apache-2.0
"""What `bringup plan` says about this model here, to be read beside what was measured."""

from collections.abc import Mapping
from typing import Any

from vllm_ascend_bringup.errors import BringupError
from vllm_ascend_bringup.hardware import CHIPS, installed_chip
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.plan import make_plan
from vllm_ascend_bringup.tools.plan.base import PlanRequest
from vllm_ascend_bringup.tools.validate.arguments import value_of
from vllm_ascend_bringup.tools.validate.request import Setting


def plan_of(setting: Setting) -> tuple[Mapping[str, Any] | None, Text | None]:
    """The plan, or why there is none; off an NPU, of the chip that the platform stands for."""
    device = _device(setting)
    if device is None:
        return None, Text("no plan: the chip is not known", "没有规划：芯片型号未知")
    length = value_of(setting.arguments, "--max-model-len") or ""
    request = PlanRequest(
        setting.request.model, device, max_model_len=int(length) if length.isdecimal() else None
    )
    try:
        return make_plan(request).to_json(), None
    except BringupError as error:
        found = error.args[0]
        return None, Text("no plan: {found}", "没有规划：{found}").format(found=found)


def _device(setting: Setting) -> str | None:
    for chip in CHIPS:
        if setting.platform.startswith(f"reference-{chip}"):
            return chip
    if setting.cpu:
        return None
    chip_here = installed_chip()
    return chip_here.id if chip_here else None
