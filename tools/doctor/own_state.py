# SPDX-License-Identifier: Apache-2.0
"""This plugin itself: its settings, its entry points, its patches."""

from vllm_ascend_bringup.errors import PatchError, SettingsError
from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import CHANGED, GONE, check, chosen, installed_versions
from vllm_ascend_bringup.settings import Settings, read_settings
from vllm_ascend_bringup.tools.doctor.facts import OwnState
from vllm_ascend_bringup.tools.doctor.machine import Machine
from vllm_ascend_bringup.tools.doctor.packages import registered

GROUPS = ("vllm.general_plugins", "vllm.platform_plugins")


def read_own_state(machine: Machine) -> OwnState:
    """Nothing of vLLM is imported; patches are compared with its source files."""
    wrong: tuple[Text, Text, Text] | None = None
    settings = Settings()
    try:
        settings = read_settings(machine.environ)
        patches = chosen(PATCHES, settings.patches)
    except (SettingsError, PatchError) as error:
        found, expected, fix = (_text(part) for part in error.args)
        wrong, patches = (found, expected, fix), []
    versions = installed_versions()
    states = {patch.name: check(patch, versions).state for patch in patches}
    return OwnState(
        setting=wrong,
        registered=tuple(f"{group}:{n}" for group in GROUPS for n in registered(machine, group)),
        misfits={name: state for name, state in states.items() if state in (CHANGED, GONE)},
    )


def _text(part: object) -> Text:
    return part if isinstance(part, Text) else Text(str(part), str(part))
