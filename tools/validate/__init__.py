# SPDX-License-Identifier: Apache-2.0
"""``bringup validate``: run the real server and prove that it serves the model.

When to use it: as the last step of a bring-up, and after every change of a version or an option.
A server that is ready has proved nothing; what counts is what its checks measured on real weights.

What it cannot see: accuracy on tasks, speed, and anything about a chip if it ran on a CPU; the
result says so.
"""

import time
from datetime import datetime, timezone

from vllm_ascend_bringup import __version__
from vllm_ascend_bringup.tools.checkpoint_report import report_checkpoint
from vllm_ascend_bringup.tools.validate.capacity import find_capacity
from vllm_ascend_bringup.tools.validate.environment import environment_of
from vllm_ascend_bringup.tools.validate.features import feature_matrix
from vllm_ascend_bringup.tools.validate.ladder import climb
from vllm_ascend_bringup.tools.validate.planning import plan_of
from vllm_ascend_bringup.tools.validate.request import ValidateRequest, setting_of
from vllm_ascend_bringup.tools.validate.results import Validation
from vllm_ascend_bringup.tools.validate.stages import run_stages
from vllm_ascend_bringup.tools.validate.verdict import limits_of, summary_of

__all__ = ["ValidateRequest", "validate"]


def validate(request: ValidateRequest) -> Validation:
    """Inspect, serve, ask, judge, stop; on failure look for what makes it pass.

    Raises CheckpointError if the checkpoint cannot be read, ServeError if there is no vLLM.
    """
    started, started_at = time.monotonic(), datetime.now(timezone.utc)
    setting = setting_of(request, report_checkpoint(request.model))
    plan, no_plan = plan_of(setting)
    stages = run_stages(setting)
    real = stages[-1]
    passed = real.state == "passed"
    # Where the real weights were not even tried, the dummy ones say why.
    failed = real if real.state == "failed" else stages[0]
    ladder = climb(failed, setting) if request.ladder and not passed else ()
    features = feature_matrix(setting, real)
    capacity = find_capacity(setting, stages) if request.capacity and passed else None
    return Validation(
        verdict="pass" if passed else "fail",
        label=None if passed else failed.label,
        summary=summary_of(stages, ladder),
        started_at=started_at.isoformat(timespec="seconds"),
        seconds=round(time.monotonic() - started, 1),
        project_version=__version__,
        environment=environment_of(setting),
        model=setting.report.to_json(),
        plan=plan,
        stages=stages,
        ladder=ladder,
        features=features,
        capacity=capacity,
        limits=(*limits_of(setting, stages), *filter(None, [no_plan])),
    )
