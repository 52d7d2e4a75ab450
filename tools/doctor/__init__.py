# SPDX-License-Identifier: Apache-2.0
"""``bringup doctor``: what is installed, and whether it fits together and to a checkpoint.

When to use it: before the first start of a server, and when a start fails before any model code
ran. It starts no server, ends no process and changes nothing.

What it cannot see: links between machines and their configuration, speed under load, differences to
another machine; the vendor's msprechecker is for these. What a fact could not be gathered for is
listed with the reason.
"""

from vllm_ascend_bringup.tools.doctor.catalog import RULES
from vllm_ascend_bringup.tools.doctor.facts import Facts, Request
from vllm_ascend_bringup.tools.doctor.gathering import gather
from vllm_ascend_bringup.tools.doctor.machine import Machine
from vllm_ascend_bringup.tools.doctor.report import DoctorReport, Unchecked


def examine(request: Request, machine: Machine | None = None) -> DoctorReport:
    """Gather and judge."""
    return judge(gather(request, machine))


def judge(facts: Facts) -> DoctorReport:
    """Apply every rule; those that lack a fact go to what could not be checked."""
    unchecked = []
    for rule in RULES:
        if field := rule.unknown(facts):
            unchecked.append(Unchecked(rule.id, rule.title, facts.unknown[field]))
    findings = tuple(finding for rule in RULES for finding in rule.apply(facts))
    return DoctorReport(facts, findings, tuple(unchecked))
