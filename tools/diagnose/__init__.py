# SPDX-License-Identifier: Apache-2.0
"""``bringup diagnose``: which causes a log shows, most likely first.

When to use it: when a server did not come up, died or was never ready. What it cannot see: a
cause that the log does not print, the device's own logs unless they are given too, and whether an
advice helps; it reads text and runs nothing.
"""

from collections.abc import Iterable, Sequence

from vllm_ascend_bringup.tools.diagnose.base import Finding
from vllm_ascend_bringup.tools.diagnose.catalog import SIGNATURES
from vllm_ascend_bringup.tools.diagnose.ranking import ranked
from vllm_ascend_bringup.tools.diagnose.scan import scan


def diagnose(lines: Iterable[str]) -> tuple[Finding, ...]:
    """The causes that one log shows, most likely first; at least one finding.

    ``lines`` may be of any number and are read once. ``insufficient-log`` is the answer where
    there is no cause, also for a log without a failure: its title says which.
    """
    return diagnose_logs([(None, lines)])


def diagnose_logs(logs: Sequence[tuple[str | None, Iterable[str]]]) -> tuple[Finding, ...]:
    """The same for the logs of several processes of one run, named in the evidence."""
    return ranked(scan(logs, SIGNATURES.values()))
