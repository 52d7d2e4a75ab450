# SPDX-License-Identifier: Apache-2.0
"""Patches inside vLLM. Imported by ``plugin.register`` only, since it imports vLLM."""

from collections.abc import Mapping

from vllm.logger import init_logger

from vllm_ascend_bringup.errors import PatchError
from vllm_ascend_bringup.patch_engine import PatchEngine
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import (
    CHANGED,
    GONE,
    MATCHES,
    Status,
    check,
    chosen,
    installed_versions,
)

_LOGGER = init_logger("vllm.ascend_bringup.patches")


def apply_patches(setting: str) -> None:
    """Apply what VLLM_ASCEND_BRINGUP_PATCHES asks for, each when its module is imported.

    With ``auto`` a patch that does not fit is left out, with a line in the log; one that is asked
    for by name raises PatchError.
    """
    versions = installed_versions()
    patches = chosen(PATCHES, setting)
    if setting != "auto":
        for status in (check(patch, versions) for patch in patches):
            if status.state != MATCHES:
                raise _refusal(status, versions)

    def warn(status: Status) -> None:
        if status.state in (CHANGED, GONE):
            _LOGGER.warning("%s", _refusal(status, versions))

    PatchEngine(patches, warn).apply(versions)


def _refusal(status: Status, versions: Mapping[str, str | None]) -> PatchError:
    patch = status.patch
    return PatchError(
        f"patch {patch.name}: {patch.target} is {status.state} ({patch.package} "
        f"{versions.get(patch.package)}, fingerprint {status.found}), and is left as it is",
        f"fingerprint {' or '.join(sorted(patch.fingerprints))}, {patch.package} {patch.versions}",
        f"see whether it is still needed: it can go when {patch.until}",
    )
