# SPDX-License-Identifier: Apache-2.0
"""Patches inside vLLM. Imported by ``plugin.register`` only, since it imports vLLM."""

import vllm
from vllm.logger import init_logger

from vllm_ascend_bringup.errors import PatchError
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import CHANGED, MATCHES, PatchEngine, Status, chosen

_LOGGER = init_logger("vllm.ascend_bringup.patches")


def apply_patches(setting: str) -> PatchEngine:
    """Apply what VLLM_ASCEND_BRINGUP_PATCHES asks for, each when vLLM imports its module.

    With ``auto`` a patch that does not fit is left out, with a line in the log; one that is asked
    for by name raises PatchError.
    """
    engine = PatchEngine(chosen(PATCHES, setting))
    for status in engine.apply(vllm.__version__):
        if status.state != MATCHES:
            if setting != "auto":
                raise _refusal(status)
            if status.state == CHANGED:
                _LOGGER.warning("%s", _refusal(status))
    return engine


def _refusal(status: Status) -> PatchError:
    patch = status.patch
    return PatchError(
        f"patch {patch.name}: {patch.target} of vLLM {vllm.__version__} is {status.state} "
        f"(fingerprint {status.found}), and is left as it is",
        f"fingerprint {' or '.join(sorted(patch.fingerprints))}, vLLM {patch.versions}",
        f"see whether it is still needed: it can go when {patch.until}",
    )
