# SPDX-License-Identifier: Apache-2.0
"""The doctor's result, as data."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from vllm_ascend_bringup.language import Text
from vllm_ascend_bringup.tools.doctor.base import ERROR, Finding
from vllm_ascend_bringup.tools.doctor.facts import Facts

SCHEMA_VERSION = 1
EXIT_CODE = 12


@dataclass(frozen=True)
class Unchecked:
    """A rule that lacked a fact, and why the fact is not there."""

    id: str
    title: Text
    reason: Text


@dataclass(frozen=True)
class DoctorReport:
    """All that the doctor prints."""

    # Where this tool ends and the vendor's begins.
    beyond: ClassVar[Text] = Text(
        "Networks, rank tables, stress tests and the comparison of two machines are the work of "
        "the vendor's msprechecker: pip install msprechecker, then msprechecker precheck. What a "
        "cluster job left behind (deployment, service, config map of ranks) is deleted with "
        "kubectl.",
        "网络、rank table、压测以及多台机器的差异比对由厂商工具 msprechecker 负责："
        "先执行 pip install msprechecker，再执行 msprechecker precheck。"
        "集群任务残留的 deployment、service 和 rank table 的 ConfigMap 请用 kubectl 删除。",
    )

    facts: Facts
    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...]

    @property
    def exit_code(self) -> int:
        """0, or 12 if there is an error."""
        return EXIT_CODE if any(f.severity == ERROR for f in self.findings) else 0

    def to_json(self) -> dict[str, Any]:
        """A JSON object; texts are objects with ``en`` and ``zh`` where languages differ."""
        return {
            "schema_version": SCHEMA_VERSION,
            "command": "doctor",
            "passed": self.exit_code == 0,
            "findings": [asdict(finding) for finding in self.findings],
            "unchecked": [asdict(entry) for entry in self.unchecked],
            "beyond": asdict(self.beyond),
            "facts": self._facts(),
        }

    def _facts(self) -> dict[str, Any]:
        content = asdict(self.facts)
        chip = self.facts.chip
        content["chip"] = {"id": chip.id, "title": chip.title} if chip else None
        return content
