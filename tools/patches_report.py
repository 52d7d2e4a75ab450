# SPDX-License-Identifier: Apache-2.0
"""``bringup patches``: the patches, and whether what is installed is what they were written for.

What it cannot see: whether a patch is still needed where its source did not change, and what
other plugins replace.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vllm_ascend_bringup.errors import PatchError, SettingsError
from vllm_ascend_bringup.patches.catalog import PATCHES
from vllm_ascend_bringup.patching import CHANGED, GONE, check, installed_versions

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class PatchLine:
    """One patch. ``state``: see patching.py. ``found``: the fingerprint of the installed source."""

    name: str
    state: str
    target: str
    why: str
    upstream: str
    versions: str
    until: str
    expected: tuple[str, ...]
    found: str | None


@dataclass(frozen=True)
class PatchesReport:
    """All patches. ``installed``: versions of vllm and vllm_ascend, None if the source lacks it."""

    installed: Mapping[str, str | None]
    patches: tuple[PatchLine, ...]

    @property
    def exit_code(self) -> int:
        """0, or that of a patch that does not fit."""
        misfit = any(line.state in (CHANGED, GONE) for line in self.patches)
        return PatchError.exit_code if misfit else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object."""
        return {"schema_version": SCHEMA_VERSION, "command": "patches", **asdict(self)}


def report_patches() -> PatchesReport:
    """Gather and judge. Raises SettingsError if there is no vLLM."""
    versions = installed_versions()
    if not versions:
        raise SettingsError(
            "vLLM is not installed here", "the vLLM that is to be patched",
            "run this in the environment that serves",
        )  # fmt: skip
    lines = []
    for patch in PATCHES.values():
        status = check(patch, versions)
        lines.append(PatchLine(
            patch.name, status.state, patch.target, patch.why, patch.upstream, patch.versions,
            patch.until, tuple(sorted(patch.fingerprints)), status.found,
        ))  # fmt: skip
    return PatchesReport(versions, tuple(lines))
