# SPDX-License-Identifier: Apache-2.0
"""``bringup audit``: a checkpoint against the parameters of the vLLM class that will serve it.

When to use it: before the first start, and whenever a load ends in leftovers. vLLM's own loaders
run on the meta device, so it takes seconds and little memory for any size, and needs no NPU.

What it cannot see: ``BLIND_SPOTS``, which every report ends with.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from vllm_ascend_bringup.checkpoint import Checkpoint, read_checkpoint
from vllm_ascend_bringup.errors import BringupError, LoadError, SettingsError
from vllm_ascend_bringup.loaded import loaded_tensors
from vllm_ascend_bringup.settings import PREFIX, read_settings
from vllm_ascend_bringup.tools.audit.report import AuditReport, judge
from vllm_ascend_bringup.tools.checkpoint_report import recipe_in_force
from vllm_ascend_bringup.tools.tp_scan import BREAKS, scan_tp
from vllm_ascend_bringup.tools.vllm_registry import installed_vllm
from vllm_ascend_bringup.tools.vllm_server import CPU_ENVIRONMENT

_PROBE = "vllm_ascend_bringup.tools.audit.probe"
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")
_TAIL = 4  # lines of an exception's text, more than any vLLM raises on purpose


def audit(path: str | Path, tp: int = 1) -> AuditReport:
    """Gather and judge. Raises BringupError if the checkpoint or its class cannot be examined."""
    checkpoint = read_checkpoint(path)
    settings, vllm = read_settings(), installed_vllm()
    _, config, _ = recipe_in_force(checkpoint, settings, vllm)
    about_tp = scan_tp(config, tp, vllm, settings.patches)
    try:
        found = probe(checkpoint, tp)
    except LoadError as error:
        for finding in about_tp:
            if finding.severity == BREAKS:
                raise SettingsError(
                    f"TP={tp}: {finding.why}", "another size", finding.cure
                ) from error
        raise
    return judge(checkpoint, tp, found, [f"TP={tp}: {finding}" for finding in about_tp])


def probe(checkpoint: Checkpoint, tp: int, recipes: Path | None = None) -> dict[str, Any]:
    """Run the probe in a process of its own. ``recipes``: used in place of the user's.

    Raises LoadError if vLLM cannot build the class, or the error the plugin raised there.
    """
    request = {
        "model": str(checkpoint.path.absolute()),
        "tp": tp,
        "tensors": loaded_tensors(checkpoint),
    }
    environment = {**os.environ, **CPU_ENVIRONMENT, "VLLM_LOGGING_LEVEL": "WARNING"}
    if recipes is not None:
        environment[f"{PREFIX}RECIPES"] = str(recipes.absolute())
    with tempfile.TemporaryDirectory(prefix="audit-") as folder:
        ask, answer = Path(folder, "ask.json"), Path(folder, "answer.json")
        ask.write_text(json.dumps(request))
        done = subprocess.run(
            [sys.executable, "-m", _PROBE, str(ask), str(answer)],
            env=environment, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if not answer.exists():
            raise _failed(checkpoint, done.stderr)
        content: dict[str, Any] = json.loads(answer.read_text())
    if "error" in content:
        raise LoadError(*content["error"])
    return content


def _failed(checkpoint: Checkpoint, stderr: str) -> BringupError:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    # The last exception: its line names the type, what follows may be its text.
    start = max((at for at, line in enumerate(lines) if _EXCEPTION.match(line)), default=-_TAIL)
    said = " ".join(lines[start:][:_TAIL])
    return LoadError(
        f"vLLM cannot build a model for {checkpoint.path}: {said}",
        "an architecture and a config that vLLM or a recipe serves",
        "see what vLLM says; for an unknown architecture, `bringup audit --suggest` drafts a "
        "recipe",
    )
