# SPDX-License-Identifier: Apache-2.0
"""The sections of a report, in the order in which a team reads them."""

from vllm_ascend_bringup.tools.report.sections import (
    capacity,
    checks,
    commands,
    deliverables,
    diagnoses,
    environment,
    false_ready,
    features,
    ladder,
    limits,
    logs,
    memory,
    model,
    plan,
    stages,
    startup,
)

SECTIONS = (
    stages.section,
    diagnoses.section,
    false_ready.section,
    ladder.section,
    features.section,
    capacity.section,
    memory.section,
    startup.section,
    environment.section,
    model.section,
    plan.section,
    commands.section,
    checks.section,
    logs.section,
    limits.section,
    deliverables.section,
)
