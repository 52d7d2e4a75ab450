# SPDX-License-Identifier: Apache-2.0
"""What ``bringup validate`` found out; ``validate --report`` draws it.

Values only: nothing here starts, reads or prints. Times are in seconds, sizes in bytes.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from vllm_ascend_bringup.language import Text, said
from vllm_ascend_bringup.tools.diagnose.base import Finding

SCHEMA_VERSION = 1

# "not-run": the checks before it made it pointless.
State = Literal["passed", "failed", "not-run", "not-applicable"]
# "unsupported" by the framework; "checkpoint-missing": it needs weights that are not there;
# "not-tried": nobody asked, or the server could not be started with it for another reason.
FeatureState = Literal[
    "verified", "unsupported", "checkpoint-missing", "not-applicable", "not-tried"
]


@dataclass(frozen=True)
class Check:
    """One proof of a running server.

    ``id``: as in the catalogue of checks. ``evidence``: what was measured, lines; what is quoted
    from a log is a plain string. ``label``: the cause if it failed: an id of ``bringup diagnose``,
    or one of validate's own.
    """

    id: str
    title: Text
    state: State
    evidence: tuple[Text | str, ...] = ()
    label: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Event:
    """A moment of a start-up, counted from the start of the process."""

    name: str
    title: Text
    seconds: float


@dataclass(frozen=True)
class Start:
    """One server: how it was started, whether it became ready, what its checks said.

    ``stage``: "dummy" or "real" weights, or the name of a rung or trial. ``changed``: what differs
    from the command asked for, empty if nothing. ``ready_after``: None if it never was. ``log``:
    its file. ``note``: why it was not run, if it was not.
    """

    stage: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    changed: tuple[str, ...]
    state: State
    label: str | None
    ready_after: float | None
    seconds: float
    timeline: tuple[Event, ...]
    checks: tuple[Check, ...]
    diagnoses: tuple[Finding, ...]
    log: str
    note: Text | None = None


@dataclass(frozen=True)
class Feature:
    """A feature in one of the four states, or not tried."""

    id: str
    title: Text
    state: FeatureState
    evidence: tuple[Text | str, ...] = ()


@dataclass(frozen=True)
class Trial:
    """One point of the capacity search: whether such a server started and served."""

    max_model_len: int
    max_num_seqs: int
    served: bool
    label: str | None
    seconds: float


@dataclass(frozen=True)
class Capacity:
    """The largest sizes that served, beside what is theoretically possible.

    ``theoretical_len``: tokens that config.json allows. ``estimated_len``, ``estimated_seqs``: what
    the memory budget allows; None where no plan was made.
    """

    theoretical_len: int
    estimated_len: int | None
    estimated_seqs: int | None
    practical_len: int | None
    practical_seqs: int | None
    trials: tuple[Trial, ...]


@dataclass(frozen=True)
class Validation:
    """Everything a team wants to read.

    ``verdict``: "pass" only if the real weights passed every check. ``label``: the first cause if
    it did not. ``environment``: names and versions. ``model``: facts as ``bringup inspect`` prints
    them. ``plan``: as ``bringup plan --json``, or None. ``ladder``: fallbacks that were tried, one
    change each. ``limits``: what this run could not show.
    """

    verdict: Literal["pass", "fail"]
    label: str | None
    summary: Text
    started_at: str
    seconds: float
    project_version: str
    environment: Mapping[str, str]
    model: Mapping[str, Any]
    plan: Mapping[str, Any] | None
    stages: tuple[Start, ...]
    ladder: tuple[Start, ...]
    features: tuple[Feature, ...]
    capacity: Capacity | None
    limits: tuple[Text, ...] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """A JSON object; texts in both languages, as ``{"en": ..., "zh": ...}``."""
        return {"schema_version": SCHEMA_VERSION, "command": "validate", **asdict(self)}


def as_text(evidence: tuple[Text | str, ...]) -> Text:
    """Lines of evidence as one text, with line breaks."""
    return Text(
        "\n".join(str(said(line, "en")) for line in evidence),
        "\n".join(str(said(line, "zh")) for line in evidence),
    )
